"""A bucket that keeps versions: its past can be read, and a deletion frees what it may."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.archives.compression import Compressor
from app.archives.store import BackupStore
from app.errors import NoPast, ObjectNotFound, StoragePermissionDenied
from app.security.signing import Signer
from app.storage.base import Remains, StorageDriver
from app.storage.limits import LimitedDriver, Limits
from app.storage.local import LocalDriver
from app.storage.s3 import MIB, S3Driver
from demo.ceph import S3Server
from tests.archives.test_store import commit, folder_of, key_of
from tests.storage.test_contract import keys, read, stream
from tests.storage.test_s3 import Place


@pytest.fixture
def server(s3_store: S3Server) -> S3Server:
    return s3_store


@pytest.fixture
async def place(server: S3Server) -> AsyncGenerator[Place, None]:
    """In a bucket of its own that keeps versions."""
    made = Place(server)
    made.configuration |= {"bucket": server.versioned(), "prefix": "deep"}
    yield made
    await made.close()


def bucket_of(place: Place) -> str:
    return str(place.configuration["bucket"])


def requests_of(driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the driver asks for, as it is told."""
    asked: list[str] = []
    call = driver._s3.call

    async def noted(what: str, work: Any) -> Any:
        asked.append(what)
        return await call(what, work)

    monkeypatch.setattr(driver._s3, "call", noted)
    return asked


async def moment_after(driver: S3Driver) -> datetime:
    """A time after all that was done: the store tells times in milliseconds, and its clock is ours."""
    await asyncio.sleep(0.01)
    moment = datetime.now(UTC)
    await asyncio.sleep(0.01)
    return moment


def deny(server: S3Server, bucket: str, *actions: str) -> None:
    statement = {
        "Effect": "Deny", "Principal": "*", "Action": [f"s3:{action}" for action in actions],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }  # fmt: skip
    with server.client() as client:
        client.put_bucket_policy(
            Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )


async def test_the_past_is_read_as_it_was(place: Place) -> None:
    driver, large = place.driver(), os.urandom(20 * MIB)
    before = await moment_after(driver)
    await driver.put("a/large", stream(large))
    await driver.put("a/replaced", stream(b"first"))
    await driver.put("a/replaced", stream(b"second"))
    await driver.put("b", stream(b"b"))
    good = await moment_after(driver)
    await driver.put("a/replaced", stream(b"third and longer"))
    await driver.put("a/new", stream(b"new"))
    await asyncio.to_thread(place_hide, place)
    assert await keys(driver) == []
    past = driver.at(good)
    assert await keys(past) == ["a/large", "a/replaced", "b"]
    assert await keys(past, "a/") == ["a/large", "a/replaced"]
    assert await read(past, "a/replaced") == b"second"
    assert await read(past, "a/large", 5) == large[5:]
    assert (await past.stat("a/large")).size == len(large)
    with pytest.raises(ObjectNotFound):
        await past.stat("a/new")
    with pytest.raises(ObjectNotFound):
        await read(past, "a/n")
    assert await keys(driver.at(before)) == []
    with pytest.raises(ObjectNotFound):
        await read(driver.at(before), "b")
    assert await keys(driver.at(datetime.now(UTC))) == []
    with pytest.raises(StoragePermissionDenied):
        await past.put("x", stream(b"x"))
    limited = LimitedDriver(driver, Limits(1 << 30, 2)).at(good)
    assert await read(limited, "b") == b"b"


def place_hide(place: Place) -> None:
    place.server.hide(bucket_of(place))


async def test_more_versions_than_a_page_holds(
    place: Place, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.s3_versions._PAGE", 7)
    driver = place.driver()
    for _ in range(3):
        await asyncio.gather(*(driver.put(f"k{number:03d}", stream(b"old")) for number in range(20)))
    for number in range(10):
        await driver.put("k", stream(str(number).encode()))
    good = await moment_after(driver)
    await asyncio.gather(*(driver.put("k", stream(b"another")) for _ in range(30)))
    await asyncio.to_thread(place_hide, place)
    assert len(await keys(driver.at(good))) == 21
    assert await read(driver.at(good), "k") == b"9"
    found = {old.key: (old.current, old.versions, old.size) async for old in driver.history()}
    assert len(found) == 21
    assert found["k007"] == (False, 3, 9)
    assert found["k"][1] == 40
    await driver.delete("k")
    left = await asyncio.to_thread(server.versions, bucket_of(place), "deep/k")
    assert "deep/k" not in {one["Key"] for one in left}
    assert len(left) == 20 * 4, "what begins with the same letter stays"


async def test_a_deletion_frees_the_bytes_and_can_be_repeated(place: Place, server: S3Server) -> None:
    driver = place.driver()
    for content in (b"1", b"22", b"333"):
        await driver.put("a/b", stream(content))
    await driver.put("a/b2", stream(b"other"))
    assert await driver.delete("a/b") is None
    assert await driver.delete("a/b") is None
    assert [one["Key"] for one in server.versions(bucket_of(place))] == ["deep/a/b2"]
    server.hide(bucket_of(place))
    assert await driver.delete("a/b2") is None, "deleted before, by somebody else"
    assert server.versions(bucket_of(place)) == []


async def test_without_versions_a_deletion_asks_once(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(server)
    driver = place.driver()
    asked = requests_of(driver, monkeypatch)
    for number in range(3):
        assert await driver.delete(str(number)) is None
    assert asked == ["Asking for versioning", "Deleting 0", "Deleting 1", "Deleting 2"]
    assert await driver.locked_until("0") is None
    assert [old async for old in driver.history()] == []
    assert await driver.keeps_history() is False
    with pytest.raises(NoPast, match="keeps no versions"):
        await keys(driver.at(datetime.now(UTC)))
    with pytest.raises(NoPast):
        await read(driver.at(datetime.now(UTC)), "0")
    await place.close()


async def test_who_may_not_look_at_versions_deletes_as_ever(place: Place, server: S3Server) -> None:
    driver = place.driver()
    await driver.put("a", stream(b"1"))
    for action in ("GetBucketVersioning", "ListBucketVersions"):
        deny(server, bucket_of(place), action)
        driver = place.driver()
        assert await driver.keeps_history() is None, "unknown is not no"
        await driver.put("a", stream(b"22"))
        assert await driver.delete("a") is None
        assert await keys(driver) == []
    with pytest.raises(StoragePermissionDenied, match="ListBucketVersions"):
        await keys(driver.at(datetime.now(UTC)))
    deny(server, bucket_of(place), "DeleteObjectVersion")
    driver = place.driver()
    await driver.put("b", stream(b"4444"))
    for _ in range(2):
        assert await driver.delete("b") == Remains(1, 4, locked=False)
    assert await keys(driver) == []
    assert len(server.versions(bucket_of(place), "deep/b")) == 2, "one version, one marker"


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE"])
async def test_what_is_locked_is_hidden_and_told(place: Place, server: S3Server, mode: str) -> None:
    bucket = server.locking()
    driver = place.driver(bucket=bucket, object_lock_days=3, object_lock_mode=mode)
    for key, content in (("small", b"1"), ("large", os.urandom(20 * MIB))):
        await driver.put(key, stream(content))
        until = await driver.locked_until(key)
        assert until is not None
        assert (until - datetime.now(UTC)).days == 2
        for _ in range(2):
            assert await driver.delete(key) == Remains(1, len(content), locked=True, until=until)
    assert await keys(driver) == []
    assert len(server.versions(bucket)) == 4


async def test_a_legal_hold_has_no_end(place: Place, server: S3Server) -> None:
    driver = place.driver(bucket=server.locking())
    await driver.put("a", stream(b"1"))
    hold = {"Bucket": driver._configuration.bucket, "Key": "deep/a", "LegalHold": {"Status": "ON"}}
    with server.client() as client:
        client.put_object_legal_hold(**hold)
    assert await driver.locked_until("a") == datetime.max.replace(tzinfo=UTC)
    remains = await driver.delete("a")
    assert remains == Remains(1, 1, locked=True, until=None)
    assert "legal hold" in str(remains)


async def test_a_lock_is_extended_and_never_shortened(place: Place, server: S3Server) -> None:
    driver = place.driver(bucket=server.locking(), object_lock_days=1)
    await driver.put("a", stream(b"1"))
    until = datetime.now(UTC) + timedelta(days=9)
    await driver.lock("a", until)
    await driver.lock("a", until - timedelta(days=5))
    assert await driver.locked_until("a") == until
    unlocked = place.driver(bucket=driver._configuration.bucket)
    await unlocked.put("b", stream(b"1"))
    assert await unlocked.locked_until("b") is None
    await driver.lock("b", until)
    assert await unlocked.locked_until("b") == until


async def test_a_lock_that_has_ended_holds_nothing(place: Place, server: S3Server) -> None:
    driver = place.driver(bucket=server.locking())
    await driver.put("a", stream(b"1"))
    until = datetime.now(UTC) + timedelta(seconds=3)
    await driver.lock("a", until)
    remains = await driver.delete("a")
    assert remains is not None
    while await driver.delete("a") is not None:
        await asyncio.sleep(0.2)
    assert datetime.now(UTC) >= until - timedelta(seconds=1)
    assert server.versions(driver._configuration.bucket) == []


async def test_there_is_no_past_elsewhere(tmp_path: Path) -> None:
    driver = LocalDriver(tmp_path)
    with pytest.raises(NoPast, match="no old versions"):
        driver.at(datetime.now(UTC))
    assert await driver.keeps_history() is False


# Backups


def store_at(driver: StorageDriver, compressor: Compressor, signer: Signer) -> BackupStore:
    return BackupStore(driver, compressor, signer)


async def test_a_sweep_spares_backups_that_somebody_has_hidden(
    place: Place, server: S3Server, compressor: Compressor, signer: Signer
) -> None:
    driver = place.driver()
    store = store_at(driver, compressor, signer)
    manifest = await commit(store, "u1")
    later = datetime.now(UTC) + timedelta(hours=1)
    leftover = folder_of("u3").component_key(1, "files", "", encrypted=True)
    await driver.put(leftover, stream(b"first half"))
    await driver.put(leftover, stream(b"half a dump"))
    good = await moment_after(driver)
    server.hide(bucket_of(place), "manifest.json")
    hidden = await store.hidden("inst")
    assert hidden.manifests == [key_of("u1")]
    assert hidden.size > 0
    removed = await store.sweep("inst", later, lambda key: False, hidden=hidden)
    assert [info.key for info in removed.removed] == [leftover]
    assert leftover not in {one["Key"].removeprefix("deep/") for one in server.versions(bucket_of(place))}
    past = store_at(driver.at(good), compressor, signer)
    assert [key async for key, _ in past.manifests()] == [key_of("u1")]
    assert await past.read_manifest(key_of("u1")) == manifest
    for component in manifest.components:
        await past.verify_object(component.objects[0])
    counted_on = {key_of("u1"): good}
    hidden = await store.hidden("inst")
    kept = await store.sweep("inst", later, lambda key: False, known=counted_on, hidden=hidden, forget_hidden=True)
    assert kept.count == 0
    await store.sweep("inst", later, lambda key: False, hidden=hidden, forget_hidden=True)
    assert server.versions(bucket_of(place)) == []


async def test_a_sweep_says_what_is_locked(
    place: Place, server: S3Server, compressor: Compressor, signer: Signer
) -> None:
    driver = place.driver(bucket=server.locking(), object_lock_days=2)
    store = store_at(driver, compressor, signer)
    leftover = folder_of("u3").component_key(1, "files", "", encrypted=True)
    await driver.put(leftover, stream(b"half a dump"))
    later = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(2):  # hidden by the first, and still ours to remove
        left: list[tuple[str, Remains]] = []
        hidden = await store.hidden("inst")
        removed = await store.sweep(
            "inst",
            later,
            lambda key: False,
            hidden=hidden,
            left=lambda info, rest: left.append((info.key, rest)),  # noqa: B023
        )
        assert removed.removed == []
        [(key, remains)] = left
        assert (key, remains.size, remains.locked) == (leftover, 11, True)


async def test_deleting_a_backup_whose_manifest_was_hidden_frees_all(
    place: Place, server: S3Server, compressor: Compressor, signer: Signer
) -> None:
    driver = place.driver()
    store = store_at(driver, compressor, signer)
    await commit(store, "u1")
    server.hide(bucket_of(place))
    assert await store.delete(key_of("u1")) is None
    assert server.versions(bucket_of(place)) == []
    await commit(store, "u2")
    good = await moment_after(driver)
    server.hide(bucket_of(place), "manifest.json")
    past = store_at(driver.at(good), compressor, signer)
    assert await past.delete(key_of("u2")) is None
    assert server.versions(bucket_of(place)) == []


# A store that wants fewer requests


async def test_a_store_that_says_slow_down_is_asked_less_at_once(place: Place, server: S3Server) -> None:
    driver = place.driver(endpoint=server.make_busy_gateway(), resume_seconds=60)
    content = os.urandom(MIB)
    await asyncio.gather(*(driver.put(f"k{number}", stream(content)) for number in range(100)))
    assert len(await keys(driver)) == 100
    assert await read(driver, "k7") == content
    assert driver._s3.turns.limit < 32
