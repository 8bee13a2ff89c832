"""Who may publish a manifest, and what is left when a commit is broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.archives.compression import Compressor
from app.archives.manifest import Manifest
from app.archives.mirror import MirroredStore
from app.archives.store import BackupStore
from app.errors import DestinationUnreachable, ObjectNotFound, OwnershipLost
from app.security.signing import Signer
from app.storage.base import ObjectInfo
from app.storage.memory import MemoryDriver
from tests.archives.test_store import commit, folder_of, key_of


class Held(MemoryDriver):
    """Stops where a manifest is put, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        if key.endswith("/manifest.json"):
            self.reached.set()
            await self.go_on.wait()
        return await super().put(key, stream, size)


class Busy(MemoryDriver):
    """Refuses to delete, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def delete(self, key: str) -> None:
        if self.times:
            self.times -= 1
            raise DestinationUnreachable("busy")
        await super().delete(key)


@pytest.fixture
def stores(compressor: Compressor, signer: Signer) -> tuple[list[Held], list[BackupStore]]:
    drivers = [Held(), Held()]
    return drivers, [BackupStore(driver, compressor, signer) for driver in drivers]


async def prepared(stores: list[BackupStore], drivers: list[Held]) -> Manifest:
    """Everything is stored at both, but no manifest."""
    for store, driver in zip(stores, drivers, strict=True):
        driver.go_on.set()
        manifest = await commit(store, "u1")
        await driver.delete(key_of("u1"))
        driver.go_on.clear()
        driver.reached.clear()
    return manifest


async def published(store: BackupStore) -> bool:
    try:
        await store.read_manifest(key_of("u1"))
    except ObjectNotFound:
        return False
    return True


async def test_who_has_lost_the_operation_while_it_published_takes_it_back(
    stores: tuple[list[Held], list[BackupStore]],
) -> None:
    """As a process that is paused between asking and writing, for longer than its lease."""
    drivers, found = stores
    manifest, lost = await prepared(found, drivers), False

    async def confirm() -> None:
        if lost:
            raise OwnershipLost("another attempt")

    drivers[0].go_on.set()
    committing = asyncio.create_task(MirroredStore(dict(enumerate(found))).commit(folder_of("u1"), manifest, confirm))
    await drivers[1].reached.wait()
    lost = True
    drivers[1].go_on.set()
    with pytest.raises(OwnershipLost):
        await committing
    assert [await published(store) for store in found] == [False, False]


async def test_nothing_is_published_by_who_is_not_asked_at_the_last_moment(
    stores: tuple[list[Held], list[BackupStore]],
) -> None:
    drivers, found = stores
    manifest = await prepared(found, drivers)

    async def confirm() -> None:
        raise OwnershipLost("another attempt")

    with pytest.raises(OwnershipLost):
        await MirroredStore({1: found[0]}).commit(folder_of("u1"), manifest, confirm)
    assert not drivers[0].reached.is_set()


async def test_a_commit_that_is_cancelled_leaves_no_manifest_anywhere(
    stores: tuple[list[Held], list[BackupStore]],
) -> None:
    drivers, found = stores
    manifest = await prepared(found, drivers)
    drivers[0].go_on.set()
    committing = asyncio.create_task(MirroredStore(dict(enumerate(found))).commit(folder_of("u1"), manifest))
    await drivers[1].reached.wait()
    assert await published(found[0])
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert [await published(store) for store in found] == [False, False]


@pytest.mark.parametrize(("refused", "left"), [(1, 0), (1000, 3)])
async def test_what_was_not_made_goes_in_the_end_or_stays_whole(
    compressor: Compressor, signer: Signer, refused: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.archives.mirror._PAUSES", (0, 0))
    busy, other = Busy(0), MemoryDriver()
    stores = {1: BackupStore(busy, compressor, signer), 2: BackupStore(other, compressor, signer)}
    for store in stores.values():
        await commit(store, "u1")
    busy.times = refused
    await MirroredStore(stores).retract(folder_of("u1", attempt=2), parts=True)
    assert len([info async for info in busy.list()]) == left
    assert [info async for info in other.list()] == [], "one that refuses does not hold up the others"


async def test_a_sweep_removes_a_backup_that_was_given_up(compressor: Compressor, signer: Signer) -> None:
    driver = MemoryDriver()
    store = BackupStore(driver, compressor, signer)
    for uid in ("u1", "u2", "u3"):
        await commit(store, uid)
    young, old = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    kept = {info.key async for info in driver.list() if "_u1." not in info.key}
    assert (await store.sweep("inst", young, lambda key: False, given_up={"u1"})).removed == []
    assert (await store.sweep("inst", old, lambda key: "_u1." in key, given_up={"u1"})).removed == []
    removed = [info.key for info in (await store.sweep("inst", old, lambda key: False, given_up={"u1"})).removed]
    assert removed[0] == key_of("u1"), "the manifest first"
    assert len(removed) == 3
    assert {info.key async for info in driver.list()} == kept
