"""BackupStore: the manifest is the commit, and only an authentic one in its own place counts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.archives.compression import Compressor
from app.archives.layout import BackupFolder, slug
from app.archives.manifest import ComponentDetails, Details, Manifest, ManifestComponent
from app.archives.store import BackupStore
from app.archives.streams import from_bytes
from app.errors import ArchiveDamaged, ManifestInvalid, ObjectNotFound, UnknownSigner
from app.security.signing import Signer
from app.storage.base import validate_key
from app.storage.memory import MemoryDriver

NOW = datetime(2026, 11, 23, 2, 15, tzinfo=UTC)


def folder_of(uid: str, attempt: int = 1) -> BackupFolder:
    return BackupFolder("inst", "Shop.Example.com", "dom", NOW, "files", uid, attempt)


async def commit(store: BackupStore, uid: str, plain: bytes = b"content") -> Manifest:
    folder = folder_of(uid)
    archive = await store.put_component(folder.component_key(1, "files", "", encrypted=False), from_bytes(plain), [])
    details = Details(
        backup_uid=uid,
        domain_name="shop.example.com",
        components=[
            ComponentDetails(
                number=1,
                kind="files",
                name="files",
                plain_size=archive.plain_size,
                plain_sha256=archive.plain_sha256,
                started_at=NOW,
                finished_at=NOW,
            )
        ],
    )
    stored = await store.put_details(folder.details_key(encrypted=False), details, [])
    manifest = Manifest(
        installation="inst",
        folder=folder.prefix,
        backup_uid=uid,
        domain_uid="dom",
        owner=1,
        type="files",
        status="completed",
        created_at=NOW,
        finished_at=NOW,
        details=stored.object,
        components=[ManifestComponent(number=1, kind="files", objects=[archive.object])],
    )
    await store.commit(folder, manifest)
    return manifest


@pytest.fixture
def driver() -> MemoryDriver:
    return MemoryDriver()


@pytest.fixture
def store(driver: MemoryDriver, compressor: Compressor, signer: Signer) -> BackupStore:
    return BackupStore(driver, compressor, signer)


def key_of(uid: str) -> str:
    return folder_of(uid).manifest_key


async def test_commit_and_read(store: BackupStore) -> None:
    manifest = await commit(store, "u1")
    assert await store.read_manifest(key_of("u1")) == manifest
    details = await store.read_details(manifest, [])
    component, entry = details.components[0], manifest.components[0]
    plain = store.open_component(entry.objects[0], component.plain_size, component.plain_sha256, None)
    assert b"".join([chunk async for chunk in plain]) == b"content"


async def test_an_edited_manifest_is_refused(store: BackupStore, driver: MemoryDriver) -> None:
    await commit(store, "u1")
    raw = b"".join([c async for c in driver.get(key_of("u1"))])
    edits: tuple[Callable[[Any], Any], ...] = (
        lambda d: d["manifest"].__setitem__("owner", 2),
        lambda d: d["manifest"]["components"][0]["objects"][0].__setitem__("size", 1),
        lambda d: d["signature"].__setitem__("value", "AAAA"),
        lambda d: d.pop("signature"),
        lambda d: d["manifest"].__setitem__("surprise", 1),
    )
    for edit in edits:
        document = json.loads(raw)
        edit(document)
        await driver.put(key_of("u1"), from_bytes(json.dumps(document).encode()))
        with pytest.raises(ManifestInvalid):
            await store.read_manifest(key_of("u1"))


async def test_a_moved_manifest_is_refused(store: BackupStore, driver: MemoryDriver) -> None:
    await commit(store, "u1")
    await driver.put(key_of("u2"), driver.get(key_of("u1")))
    with pytest.raises(ManifestInvalid, match="moved"):
        await store.read_manifest(key_of("u2"))


async def test_a_stranger_cannot_sign(driver: MemoryDriver, compressor: Compressor, signer: Signer) -> None:
    await commit(BackupStore(driver, compressor, Signer(os.urandom(32))), "u1")
    with pytest.raises(UnknownSigner):
        await BackupStore(driver, compressor, signer).read_manifest(key_of("u1"))


async def test_commit_refuses_when_an_object_is_gone(store: BackupStore, driver: MemoryDriver) -> None:
    manifest = await commit(store, "u1")
    await driver.delete(key_of("u1"))
    await driver.delete(manifest.components[0].objects[0].key)
    with pytest.raises(ArchiveDamaged):
        await store.commit(folder_of("u1"), manifest)
    with pytest.raises(ObjectNotFound):
        await store.read_manifest(key_of("u1"))


async def test_delete_leaves_nothing_and_can_be_repeated(store: BackupStore, driver: MemoryDriver) -> None:
    await commit(store, "u1")
    await store.delete(key_of("u1"))
    await store.delete(key_of("u1"))
    assert [info async for info in driver.list()] == []


async def test_sweep_takes_leftovers_only(store: BackupStore, driver: MemoryDriver) -> None:
    await commit(store, "u1")
    await commit(store, "u2")
    await driver.put(key_of("u2"), from_bytes(b"damaged manifest"))
    leftover = folder_of("u3").component_key(1, "files", "", encrypted=True)
    await driver.put(leftover, from_bytes(b"half a dump"))
    await driver.put("other-installation/x", from_bytes(b"not ours"))
    before = {info.key async for info in driver.list()}
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (await store.sweep("inst", datetime.now(UTC) - timedelta(hours=1), lambda key: False)).count == 0
    assert (await store.sweep("inst", later, lambda key: "u3" in key)).removed == []
    for dry_run in (True, False):
        swept = await store.sweep("inst", later, lambda key: False, dry_run=dry_run)
        assert [info.key for info in swept.removed] == [leftover]
        assert [problem["key"] for problem in swept.refused] == [key_of("u2")], "left alone, and named"
    assert {info.key async for info in driver.list()} == before - {leftover}


async def test_sweep_spares_a_backup_whose_manifest_somebody_has_deleted(
    store: BackupStore, driver: MemoryDriver
) -> None:
    await commit(store, "u1")
    await driver.delete(key_of("u1"))
    before = {info.key async for info in driver.list()}
    later = datetime.now(UTC) + timedelta(hours=1)
    assert (await store.sweep("inst", later, lambda key: False, known=[key_of("u1")])).removed == []
    assert {info.key async for info in driver.list()} == before
    assert (await store.sweep("inst", later, lambda key: False)).count == len(before), "nobody counts on it"


def test_keys_are_slugs_however_hostile_the_name() -> None:
    assert slug("../../etc; rm -rf \n€") == "etc-rm-rf"
    key = folder_of("u").component_key(2, "mysql", "../..\n`x`", encrypted=True)
    assert validate_key(key).endswith("/02-mysql-x.sql.zst.age")
