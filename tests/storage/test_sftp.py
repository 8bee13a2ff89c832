"""What SFTP has beyond the contract: keys, host keys, broken lines, refusals."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from app.errors import (
    DestinationRefused,
    DestinationUnreachable,
    HostKeyMismatch,
    KeyMaterialInvalid,
    NoSpace,
    StoragePermissionDenied,
)
from app.storage.base import Options, StorageDriver
from app.storage.registry import build_driver
from demo.ports import free_port
from demo.storage_servers import StorageServer, sftp_server
from tests.storage.test_contract import keys, read, stream

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@pytest.fixture(scope="module")
def server() -> Iterator[StorageServer]:
    with sftp_server() as started:
        yield started


class Place:
    """Drivers of one folder, closed at the end."""

    def __init__(self, server: StorageServer) -> None:
        self.configuration = server.fresh()
        self.pinned: list[dict[str, Any]] = []
        self._made: list[StorageDriver] = []

    def driver(self, resume_seconds: float = 20, **changes: Any) -> StorageDriver:
        async def pin(found: dict[str, Any]) -> None:
            self.pinned.append(found)

        options = Options(resume_seconds=resume_seconds, pin=pin)
        self._made.append(build_driver("sftp", self.configuration | changes, options))
        return self._made[-1]

    async def close(self) -> None:
        for made in self._made:
            await made.close()


@pytest.fixture
async def place(server: StorageServer) -> AsyncGenerator[Place, None]:
    made = Place(server)
    yield made
    await made.close()


async def test_the_first_host_key_is_pinned_and_another_one_refused(place: Place, server: StorageServer) -> None:
    await place.driver().check()
    assert place.pinned == [{"host_key": server.extra["host_key"]}]
    await place.driver(host_key=server.extra["host_key"]).check()
    assert len(place.pinned) == 1
    with pytest.raises(HostKeyMismatch, match="another server answers"):
        await place.driver(host_key=server.extra["other_key"]).check()


async def test_a_private_key_with_a_passphrase(place: Place, server: StorageServer) -> None:
    await place.driver(password=None, **server.extra["keys"]).check()
    with pytest.raises(KeyMaterialInvalid) as caught:
        await place.driver(password=None, **server.extra["keys"] | {"passphrase": "wrong"}).check()
    assert "PRIVATE KEY" not in str(caught.value)


async def test_wrong_credentials_and_unreachable_servers(place: Place) -> None:
    with pytest.raises(DestinationRefused, match="authentication failed"):
        await place.driver(password="wrong").check()
    with pytest.raises(DestinationUnreachable, match="cannot be reached"):
        await place.driver(port=free_port()).check()
    with pytest.raises(DestinationUnreachable, match="cannot be resolved"):
        await place.driver(host="no-such-host.invalid").check()


async def test_a_line_that_breaks_in_the_middle_of_a_put_is_resumed(place: Place, server: StorageServer) -> None:
    block = random.Random(1).randbytes(1_000_003)
    driver = place.driver()

    cuts = [9, 21]

    async def breaking() -> AsyncGenerator[bytes, None]:
        for number in range(36):
            # A break is noticed by the next write: until then there is nothing new to break.
            if cuts and number >= cuts[0] and server.drop_connections():
                cuts.pop(0)
            yield block

    info = await driver.put("big", breaking())
    assert info.size == 36 * len(block)
    assert await read(driver, "big") == block * 36
    assert await keys(driver) == ["big"]
    assert len(cuts) < 2, "it broke at least once"


async def test_a_line_that_breaks_in_the_middle_of_a_get_is_resumed(place: Place, server: StorageServer) -> None:
    content = random.Random(2).randbytes(30_000_001)
    driver = place.driver()
    await driver.put("big", stream(content))
    found = bytearray()
    async for chunk in driver.get("big", 5):
        if len(found) < 10_000_000 <= len(found) + len(chunk):
            assert server.drop_connections() > 0
        found += chunk
    assert bytes(found) == content[5:]


async def test_a_line_that_stays_down_fails_honestly_and_leaves_nothing_visible(place: Place) -> None:
    with sftp_server() as mortal:
        dying = Place(mortal)
        driver = dying.driver(resume_seconds=1)
        await driver.put("old", stream(b"kept"))

        async def last() -> AsyncGenerator[bytes, None]:
            yield os.urandom(5_000_000)
            mortal.stop()
            yield os.urandom(5_000_000)

        with pytest.raises(DestinationUnreachable):
            await driver.put("new", last())
        assert sorted(path.name for path in mortal.data.rglob("[!.]*") if path.is_file()) == ["old"]
        await dying.close()


async def test_a_read_only_server(server: StorageServer) -> None:
    with sftp_server(["-R"]) as readonly:
        place = Place(readonly)
        with pytest.raises(StoragePermissionDenied):
            await place.driver().check()
        await place.close()


@needs_root
async def test_a_full_disk_is_named_and_older_objects_stay() -> None:
    with sftp_server(size="24m") as small:
        place = Place(small)
        driver = place.driver()
        await driver.put("old", stream(b"kept"))
        block = os.urandom(1 << 20)
        with pytest.raises(NoSpace):
            await driver.put("new", stream(*[block] * 40))
        assert await keys(driver) == ["old"]
        await driver.put("again", stream(*[block] * 10))
        free = await driver.free_bytes()
        assert free is not None
        assert free < 16 << 20
        await place.close()


async def test_foreign_files_are_neither_listed_nor_touched(place: Place) -> None:
    driver = place.driver()
    await driver.put("a/ours", stream(b"1"))
    root = place.configuration["root"]
    for name in (b".hidden", b"bad\xff", b"back\\slash"):
        await asyncio.to_thread(_touch, os.fsencode(root) + b"/a/" + name)
    os.symlink("/etc/passwd", f"{root}/a/link")
    assert await keys(driver) == ["a/ours"]
    await driver.delete("a/ours")
    assert len(os.listdir(f"{root}/a")) == 4


def _touch(path: bytes) -> None:
    with open(path, "wb"):
        pass
