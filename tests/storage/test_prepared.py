"""What is not there is no empty destination: a root that is gone, a disk that goes away in the middle, a marker that
is not where it was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from app.archives.compression import Compressor
from app.archives.layout import is_marker, marker_key
from app.archives.store import BackupStore
from app.errors import DestinationNotPrepared, ObjectNotFound
from app.security.signing import Signer
from app.storage.base import StorageDriver, validate_key
from app.storage.discreet import DiscreetDriver
from app.storage.limits import LimitedDriver, Limits
from app.storage.local import LocalDriver
from app.storage.memory import MemoryDriver
from app.storage.prepared import PreparedDriver
from tests.archives.test_store import commit, key_of
from tests.storage.test_contract import keys, read, stream

MARKER = marker_key("inst", "01936b2e-0000-7000-8000-000000000000")


async def marked(driver: StorageDriver, past: StorageDriver | None = None) -> None:
    for place in (driver, past):
        if place is not None and MARKER in await keys(place):
            return
    raise DestinationNotPrepared("no marker")


async def drained(result: Any) -> Any:
    """What a method of a driver gives, whatever kind of method it is."""
    if isinstance(result, AsyncGenerator):
        return [found async for found in result]
    return await result if isinstance(result, Awaitable) else result


class Disk:
    """A folder of a disk that is mounted."""

    def __init__(self, folder: Path) -> None:
        self._disk, self.root = folder / "disk", folder / "mnt"
        for path in (self._disk, self.root):
            path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(self._disk)], check=True)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "--bind", str(self._disk), str(self.root)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.root)], check=True)

    def end(self) -> None:
        subprocess.run(["umount", "-l", str(self._disk)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid():
        pytest.skip("mounting needs root")
    made = Disk(tmp_path)
    yield made
    made.end()


async def test_no_put_makes_a_root_that_is_gone(tmp_path: Path) -> None:
    driver = LocalDriver(tmp_path / "root")
    with pytest.raises(DestinationNotPrepared, match="mounted"):
        await driver.put("a/b", stream(b"1"))
    with pytest.raises(DestinationNotPrepared):
        await keys(driver)
    with pytest.raises(DestinationNotPrepared):
        await driver.delete("a/b")
    with pytest.raises(DestinationNotPrepared):
        await driver.free_bytes()
    assert not (tmp_path / "root").exists()
    await driver.make_place()
    await driver.put("a/b", stream(b"1"))
    assert await keys(driver) == ["a/b"]


@pytest.mark.parametrize("key", ["a/b", "old/other"])
async def test_a_disk_that_goes_away_during_a_put(disk: Disk, key: str) -> None:
    driver = LocalDriver(disk.root)
    await driver.put("old/one", stream(b"kept"))

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"1"
        disk.unmount()
        yield b"2"

    with pytest.raises(DestinationNotPrepared):
        await driver.put(key, chunks())
    with pytest.raises(DestinationNotPrepared):
        await driver.put(key, stream(b"1"))
    with pytest.raises(DestinationNotPrepared):
        await driver.delete("old/one")
    assert list(disk.root.iterdir()) == []
    disk.mount()
    assert await read(driver, "old/one") == b"kept"
    assert await keys(driver) == ["old/one"]
    disk.unmount()


async def test_without_the_marker_nothing_is_written_deleted_listed_or_called_absent() -> None:
    inner = MemoryDriver()
    driver = PreparedDriver(inner, marked, is_marker)
    validate_key(MARKER)
    await inner.put("inst/a", stream(b"1"))
    for refused in (
        lambda: driver.put("inst/b", stream(b"2")),
        lambda: driver.delete("inst/a"),
        lambda: keys(driver),
        lambda: driver.stat("inst/none"),
        lambda: read(driver, "inst/none"),
        lambda: driver.remove_leftovers("inst/", datetime.now(UTC)),
        lambda: driver.lock("inst/a", datetime.now(UTC)),
        lambda: drained(driver.history("inst/")),
        driver.free_bytes,
        driver.confirm,
    ):
        with pytest.raises(DestinationNotPrepared):
            await refused()
    assert await read(driver, "inst/a") == b"1", "what is found is believed"
    assert await keys(inner) == ["inst/a"]
    await inner.put(MARKER, stream(b"{}"))
    await driver.put("inst/b", stream(b"2"))
    assert await keys(driver) == ["inst/a", "inst/b"], "the marker is not listed"
    with pytest.raises(ObjectNotFound):
        await driver.stat("inst/none")
    await inner.delete(MARKER)
    with pytest.raises(DestinationNotPrepared):
        await read(driver, "inst/none")


class Past(MemoryDriver):
    """One whose past is another driver."""

    def __init__(self) -> None:
        super().__init__()
        self.past = MemoryDriver()

    def at(self, moment: datetime) -> StorageDriver:
        return self.past


async def test_the_past_is_read_without_a_marker_and_judged_with_one_of_then_or_now() -> None:
    inner = Past()
    await inner.past.put("inst/a", stream(b"1"))
    driver = PreparedDriver(inner, marked, is_marker).at(datetime.now(UTC))
    assert await keys(driver) == ["inst/a"]
    assert await read(driver, "inst/a") == b"1"
    for refused in (lambda: driver.stat("inst/none"), lambda: driver.delete("inst/a"), driver.confirm):
        with pytest.raises(DestinationNotPrepared):
            await refused()
    for place in (inner, inner.past):
        await place.put(MARKER, stream(b"{}"))
        await driver.confirm()
        assert await keys(driver) == ["inst/a"], "the marker is not listed"
        with pytest.raises(ObjectNotFound):
            await driver.stat("inst/none")
        await place.delete(MARKER)
        with pytest.raises(DestinationNotPrepared):
            await driver.stat("inst/none")


class Asked(Past):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names = set[str]()

    def __getattribute__(self, name: str) -> Any:
        if name in METHODS:
            self.names.add(name)
        return super().__getattribute__(name)


#: With arguments; `checks` and `check` are made of the others.
METHODS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "put": lambda: ("inst/a", stream(b"1")),
    "get": lambda: ("inst/a",),
    "stat": lambda: ("inst/a",),
    "list": lambda: ("inst/",),
    "lock": lambda: ("inst/a", datetime.now(UTC)),
    "locked_until": lambda: ("inst/a",),
    "delete": lambda: ("inst/a",),
    "at": lambda: (datetime.now(UTC),),
    "history": lambda: ("inst/",),
    "keeps_history": tuple,
    "connections": tuple,
    "confirm": tuple,
    "make_place": tuple,
    "free_bytes": tuple,
    "remove_leftovers": lambda: ("inst/", datetime.now(UTC)),
    "close": tuple,
}


@pytest.mark.parametrize(
    ("wrapped", "own"),
    [
        (lambda driver: LimitedDriver(driver, Limits(1 << 20, 1)), set()),
        (lambda driver: PreparedDriver(driver, AsyncMock(), is_marker), {"confirm"}),
        (lambda driver: DiscreetDriver(driver, ["place"]), set()),
    ],
    ids=["limited", "prepared", "discreet"],
)
async def test_every_method_reaches_the_driver(
    wrapped: Callable[[StorageDriver], StorageDriver], own: set[str]
) -> None:
    public = {name for name, member in vars(StorageDriver).items() if callable(member) and not name.startswith("_")}
    assert METHODS.keys() == public - {"check", "checks"}
    inner = Asked()
    driver = wrapped(inner)
    for name, arguments in METHODS.items():
        inner.names.clear()
        result = await drained(getattr(driver, name)(*arguments()))
        assert (name in inner.names) == (name not in own), name
        assert name != "at" or isinstance(result, type(driver)), "the limits and the marker hold in the past too"


async def test_no_manifest_where_the_marker_went_away(compressor: Compressor, signer: Signer) -> None:
    inner = MemoryDriver()
    store = BackupStore(PreparedDriver(inner, marked, is_marker), compressor, signer)
    await inner.put(MARKER, stream(b"{}"))
    await commit(store, "first")
    await inner.delete(MARKER)
    with pytest.raises(DestinationNotPrepared):
        await commit(store, "second")
    assert [key for key in await keys(inner) if key.endswith("manifest.json")] == [key_of("first")]
    with pytest.raises(DestinationNotPrepared):
        await store.sweep("inst", datetime.now(UTC), lambda key: False)
    await inner.put(MARKER, stream(b"{}"))
    removed = await store.sweep("inst", datetime.now(UTC), lambda key: False)
    assert {info.key.rpartition("/")[0] for info in removed.removed} == {key_of("second").rpartition("/")[0]}
    assert MARKER in await keys(inner)


async def test_a_listed_manifest_that_is_not_found_keeps_its_folder(compressor: Compressor, signer: Signer) -> None:
    """A line or a disk that is away for a moment between the listing and the reading."""

    class Flapping(MemoryDriver):
        async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
            raise ObjectNotFound(key)
            yield b""

    inner = MemoryDriver()
    await commit(BackupStore(inner, compressor, signer), "kept")
    flapping = Flapping()
    flapping._objects = inner._objects
    before = await keys(inner)
    swept = await BackupStore(flapping, compressor, signer).sweep("inst", datetime.now(UTC), lambda key: False)
    assert swept.count == 0
    assert await keys(inner) == before
