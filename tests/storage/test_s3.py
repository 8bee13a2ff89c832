"""What S3 has beyond the contract: parts, refusals, certificates, a store that goes away."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import (
    AddressForbidden,
    CertificateInvalid,
    DestinationInvalid,
    DestinationRefused,
    DestinationUnreachable,
    NoSpace,
    StoragePermissionDenied,
)
from app.storage.base import Options, StorageDriver
from app.storage.registry import build_driver
from app.storage.s3 import MAX_PARTS, MIB, S3Driver
from app.storage.s3_part import in_parts
from demo.ceph import S3Server
from demo.ports import free_port
from tests.storage.test_contract import keys, read, stream


@pytest.fixture
def server(s3_store: S3Server) -> S3Server:
    return s3_store


class Place:
    """Drivers of one prefix, closed at the end."""

    def __init__(self, server: S3Server) -> None:
        self.configuration = server.fresh()
        self.server = server
        self._made: list[StorageDriver] = []

    def driver(self, resume_seconds: float = 20, **changes: Any) -> S3Driver:
        made = build_driver("s3", self.configuration | changes, Options(resume_seconds=resume_seconds))
        assert isinstance(made, S3Driver)
        self._made.append(made)
        return made

    async def close(self) -> None:
        for made in self._made:
            await made.close()


@pytest.fixture
async def place(server: S3Server) -> AsyncGenerator[Place, None]:
    made = Place(server)
    yield made
    await made.close()


async def test_refusals_are_told_apart(place: Place) -> None:
    with pytest.raises(DestinationRefused, match="check key, secret"):
        await place.driver(secret="wrong").check()
    with pytest.raises(DestinationInvalid, match="no such bucket"):
        await place.driver(bucket="nobodys-bucket").check()
    with pytest.raises(DestinationUnreachable, match="cannot be reached"):
        await place.driver(endpoint=f"http://127.0.0.1:{free_port()}").check()
    with pytest.raises(DestinationUnreachable, match="cannot be"):
        await place.driver(endpoint="http://no-such-host.invalid").check()


async def test_a_certificate_must_be_trusted(place: Place, server: S3Server) -> None:
    with pytest.raises(CertificateInvalid):
        await place.driver(endpoint=server.extra["https"]).check()
    trusting = place.driver(endpoint=server.extra["https"], certificate=server.extra["certificate"])
    await trusting.check()
    content = os.urandom(20 * MIB)
    await trusting.put("big", stream(content))
    assert await read(trusting, "big", 3) == content[3:]


async def test_a_name_that_means_a_metadata_address_is_refused(
    place: Place, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lies(self: object, host: str, port: int, **_: object) -> Any:
        return [(2, 1, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", lies)
    with pytest.raises(AddressForbidden):
        await place.driver(endpoint="http://innocent.example.com").check()


async def test_a_store_that_stands_still_in_the_middle_of_a_put_is_waited_for(place: Place, server: S3Server) -> None:
    block = random.Random(3).randbytes(9 * MIB)
    driver = place.driver(timeout=1)

    async def with_a_pause() -> AsyncGenerator[bytes, None]:
        for number in range(6):
            if number == 3:
                os.kill(server.pid, signal.SIGSTOP)
                asyncio.get_running_loop().call_later(4, os.kill, server.pid, signal.SIGCONT)
            yield block

    info = await driver.put("big", with_a_pause())
    assert info.size == 6 * len(block)
    assert await read(driver, "big") == block * 6
    assert await keys(driver) == ["big"]


async def test_a_quota_reached_in_the_middle_leaves_nothing(place: Place, server: S3Server) -> None:
    driver = place.driver(**server.limited("20M"))
    stored: list[str] = []
    with pytest.raises(NoSpace):  # Ceph counts an upload late, when it is completed
        for number in range(20):
            await driver.put(f"{number:02d}", stream(*[os.urandom(MIB)] * 20))
            stored.append(f"{number:02d}")
    assert stored
    assert await keys(driver) == stored


async def test_attributes_reach_the_store(place: Place) -> None:
    driver = place.driver(tags={"purpose": "backup & restore"}, prefix=place.configuration["prefix"] + "/deep")
    await driver.put("a/b", stream(b"1"))
    plain = place.driver()
    assert await keys(plain) == ["deep/a/b"]
    assert await keys(driver) == ["a/b"]
    tags = await driver._s3.call("tags", lambda client: client.get_object_tagging(**driver.target("a/b")))
    assert tags["TagSet"] == [{"Key": "purpose", "Value": "backup & restore"}]


async def test_a_lock_and_a_storage_class_reach_the_store(place: Place, server: S3Server) -> None:
    bucket = server.locking()
    driver = place.driver(object_lock_days=3, storage_class="STANDARD", bucket=bucket)
    for key, content in (("small", b"1"), ("large", os.urandom(20 * MIB))):
        await driver.put(key, stream(content))
        found = await driver._s3.call("head", lambda client: client.head_object(**driver.target(key)))  # noqa: B023
        left = found["ObjectLockRetainUntilDate"] - datetime.now(UTC)
        assert (found["ObjectLockMode"], left.days) == ("COMPLIANCE", 2)
        assert await read(driver, key) == content
        with pytest.raises(StoragePermissionDenied):  # the very version; a plain deletion only hides it
            version = found["VersionId"]
            target = {**driver.target(key), "VersionId": version}
            await driver._s3.call("delete", lambda client: client.delete_object(**target))  # noqa: B023


async def test_parts_suffice_for_any_expected_size_and_grow_for_an_unknown_one() -> None:
    driver = build_driver("s3", {"key": "k", "secret": "s", "bucket": "bucket"}, Options())
    assert isinstance(driver, S3Driver)
    for size in (0, 5 * MIB, 80_000 * MIB, 80_001 * MIB, 5 << 40):
        part = driver._part_size(size)
        assert part * MAX_PARTS >= size
        assert part % MIB == 0

    async def source() -> AsyncGenerator[bytes, None]:
        for _ in range(2003):
            yield b"x" * 1024

    sizes = [part.size async for part in in_parts(source(), 1024, grows_every=2000)]
    assert sizes == [1024] * 2000 + [2048, 1024]
    assert {part.size async for part in in_parts(source(), 2048)} == {2048, 1024}
