"""Removal: deletes the copies of backups, and forgets only what is known to be gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.store import BackupStore
from app.db.changes import KEY
from app.db.models import Backup, Destination
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.session import Database
from app.errors import Conflict, LiberuError, ObjectLocked
from app.services.destinations import DestinationService
from app.services.locks import ending
from app.services.unit import Unit
from app.storage.base import Remains

log = logging.getLogger(__name__)
_Transaction = AbstractAsyncContextManager[AsyncSession]
_BATCH = 500
_LEFTOVER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Removed:
    """A copy is gone for all that restores; `remains`: old versions that the destination keeps nevertheless."""

    remains: Remains | None


class Removal:
    """A copy is `deleting` from before its first object goes: a crash in between leaves nothing that claims to be
    restorable, and whoever deletes again goes on. Its row goes when all of it is gone and the destination is still
    the one that was prepared. All of it can be done twice, and by several at once."""

    def __init__(self, database: Database, destinations: DestinationService) -> None:
        self._database = database
        self._destinations = destinations

    async def everywhere(self, unit: Unit, backup_id: int) -> None:
        """Every copy, then the backup; the request's `unit`, whose transaction has been released, is told for the
        audit trail. Where no copy's destination is there, or one of them keeps its copy for a time, nothing is begun;
        a copy that cannot be deleted keeps none of the others. Raises Conflict when it is locked or in use,
        ObjectLocked, and what happened to the first copy that is still there."""
        async with AsyncExitStack() as stack:
            backup, places = await self._loaded(backup_id)
            if backup is None:
                return
            stores, away = await self._there(stack, backup, places)
            meant = {copy.destination_id for copy in backup.copies if copy.state != "failed"}
            if meant and meant <= away.keys():
                raise away[min(meant)]
            async with self._told(unit) as session:
                backup = await BackupRepository(session).start_removal(backup_id)
            if backup is None:
                raise Conflict(f"Backup {backup_id} is locked, in use or gone by now")
            for copy in backup.copies:
                if copy.state == "failed" and copy.destination_id in stores:
                    await self._leftovers(stores[copy.destination_id], copy.manifest_key)
            for number in sorted(meant):
                try:
                    if number in away:
                        raise away[number]
                    await self._delete(stores[number], backup, number, self._told(unit))
                except LiberuError as error:
                    away[number] = error
                    await self._note(backup_id, number, error)
            if not meant:
                async with self._told(unit) as session:
                    await BackupRepository(session).forget_copy(backup_id, backup.destination_id)
        left = [number for number in sorted(meant) if number in away]
        if left:
            first, names = away[left[0]], {place.id: place.name for place in places}
            raise type(first)(
                f"The copy at {names[left[0]]} is still there: {first.message}. The backup stays listed as deleting, "
                "and it is tried again"
            ) from first

    async def at(self, store: BackupStore, destination_id: int, backup_id: int) -> Removed | None:
        """The copy at one destination, and the backup with the last one. None when it stays: it is locked, in use,
        or gone by now. Raises ObjectLocked: nothing was changed, or what the destination has let go is gone."""
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).get(backup_id)
        if backup is None:
            return None
        until = await _held(store, backup, destination_id)
        if until is not None:
            raise ObjectLocked(f"The destination keeps backup {backup_id} {ending(until)}")
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).start_removal(backup_id, destination_id)
        if backup is None:
            return None
        try:
            return Removed(await self._delete(store, backup, destination_id, self._database.transaction()))
        except LiberuError as error:
            await self._note(backup_id, destination_id, error)
            raise

    async def resume(self) -> None:
        """Go on with what was begun; what cannot be done now is left for the next time."""
        async with self._database.transaction() as session:
            numbers = await BackupRepository(session).with_removals()
            places = await DestinationRepository(session).named(numbers)
        for place in places:
            async with self._database.transaction() as session:
                begun = await BackupRepository(session).begun_removals(place.id, _BATCH)
            try:
                async with self._destinations.opened(place) as store:
                    await store.confirm()
                    for backup_id in begun:
                        with suppress(LiberuError):  # noted beside the copy
                            await self.at(store, place.id, backup_id)
            except LiberuError as error:
                log.warning("Deletions at destination %s have to wait: %s", place.id, error.message)

    async def _loaded(self, backup_id: int) -> tuple[Backup | None, list[Destination]]:
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).get(backup_id)
            numbers = [] if backup is None else sorted({copy.destination_id for copy in backup.copies})
            return backup, await DestinationRepository(session).named(numbers)

    async def _there(
        self, stack: AsyncExitStack, backup: Backup, places: list[Destination]
    ) -> tuple[dict[int, BackupStore], dict[int, LiberuError]]:
        """The stores of the destinations that are there, and why the others are not. Raises ObjectLocked when one of
        them lets nobody delete its copy yet."""
        stores, away = dict[int, BackupStore](), dict[int, LiberuError]()
        for place in places:
            try:
                store = await stack.enter_async_context(self._destinations.opened(place))
                for _, seen in _seen(store, backup, place.id):
                    await seen.confirm()
                until = await _held(store, backup, place.id)
            except LiberuError as error:
                away[place.id] = error
                continue
            if until is not None:
                raise ObjectLocked(
                    f"Backup {backup.id} cannot be deleted: {place.name} keeps it {ending(until)} (Object Lock); "
                    "nothing was changed"
                )
            stores[place.id] = store
        return stores, away

    @staticmethod
    async def _delete(store: BackupStore, backup: Backup, destination_id: int, end: _Transaction) -> Remains | None:
        """What the destination keeps and nobody holds. Raises ObjectLocked for what is held: the row stays."""
        found: list[Remains | None] = []
        for key, seen in _seen(store, backup, destination_id):
            found.append(await seen.delete(key))
            await seen.confirm()  # what is not found where the disk is gone was not deleted
        remains = Remains.of_all(found)
        if remains is not None and remains.locked:
            raise ObjectLocked(f"Backup {backup.id}: {remains}; its deletion ends after that")
        async with end as session:
            await BackupRepository(session).forget_copy(backup.id, destination_id)
        return remains

    @asynccontextmanager
    async def _told(self, unit: Unit) -> AsyncGenerator[AsyncSession, None]:
        """A transaction of its own, whose changes are told in the request's."""
        async with self._database.transaction() as session:
            yield session
        unit.session.info.setdefault(KEY, []).extend(session.info.get(KEY, []))

    @staticmethod
    async def _leftovers(store: BackupStore, manifest_key: str) -> None:
        """Of a copy that was never stored, as far as they can be reached; the sweep finds what stays."""
        with suppress(LiberuError, TimeoutError):
            async with asyncio.timeout(_LEFTOVER_SECONDS):
                await store.delete(manifest_key)

    async def _note(self, backup_id: int, destination_id: int, error: LiberuError) -> None:
        async with self._database.transaction() as session:
            await BackupRepository(session).note_removal(backup_id, destination_id, error.message)


def _seen(store: BackupStore, backup: Backup, destination_id: int) -> list[tuple[str, BackupStore]]:
    """The manifests of what is kept there, each with the store as of when its copy is read. Raises NoPast."""
    return [
        (copy.manifest_key, store.at(copy.as_of))
        for copy in backup.copies
        if copy.destination_id == destination_id and copy.manifest_key
    ]


async def _held(store: BackupStore, backup: Backup, destination_id: int) -> datetime | None:
    """Until when the destination lets nobody delete the copy there."""
    until = [await seen.locked_until(key) for key, seen in _seen(store, backup, destination_id)]
    return max((one for one in until if one is not None), default=None)
