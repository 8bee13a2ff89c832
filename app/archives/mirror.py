"""A backup written to several destinations at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from app.archives.layout import BackupFolder
from app.archives.manifest import Details, Manifest, pack_details
from app.archives.pipeline import Digests
from app.archives.store import BackupStore, StoredArchive, always
from app.archives.streams import ByteStream, from_bytes
from app.archives.tee import tee
from app.errors import JobError, LiberuError
from app.storage.base import ObjectInfo

T = TypeVar("T")
log = logging.getLogger(__name__)
_ABANDON_SECONDS = 30
#: Between tries.
_PAUSES = (1, 3)


class MirroredStore:
    """The same objects at each of `stores`, from one read of the source; the first one is the primary.

    A store that fails where another one succeeds is dropped: `lost` tells why, and nothing more goes there. What
    fails at all of them is raised as the primary's error, and drops none.
    """

    def __init__(self, stores: Mapping[int, BackupStore]) -> None:
        self._stores = dict(stores)
        self.lost: dict[int, LiberuError] = {}

    @property
    def primary(self) -> BackupStore:
        return next(iter(self._stores.values()))

    @property
    def live(self) -> dict[int, BackupStore]:
        return {number: store for number, store in self._stores.items() if number not in self.lost}

    def drop(self, number: int, error: LiberuError) -> None:
        self.lost.setdefault(number, error)

    async def free_bytes(self, number: int) -> int | None:
        """Space left at one store; None where it cannot tell. One that cannot be asked is dropped."""
        try:
            return await self._stores[number].free_bytes()
        except LiberuError as error:
            self.drop(number, error)
            return None

    def require_one(self) -> None:
        """Raises what happened to the primary when no store is left."""
        if not self.live:
            raise self.lost.get(next(iter(self._stores))) or next(iter(self.lost.values()))

    async def put_component(
        self,
        key: str,
        source: ByteStream,
        recipients: Sequence[str],
        before_publish: Callable[[], None] = lambda: None,
    ) -> tuple[StoredArchive, list[int]]:
        """As BackupStore.put_component; and the numbers of the stores that have it."""
        live = self.live
        if len(live) == 1:
            ((number, store),) = live.items()
            return await store.put_component(key, source, recipients, before_publish), [number]
        digests = Digests()
        archive = self.primary.encoded(source, recipients, digests, before_publish)
        puts = {number: partial(store.put_archive, key, digests) for number, store in live.items()}
        stored = self._good(await tee(archive, puts))
        return next(iter(stored.values())), list(stored)

    async def put_details(
        self, key: str, details: Details, recipients: Sequence[str]
    ) -> tuple[StoredArchive, list[int]]:
        return await self.put_component(key, from_bytes(pack_details(details)), recipients)

    async def commit(
        self, folder: BackupFolder, manifest: Manifest, confirm: Callable[[], Awaitable[None]] = always
    ) -> dict[int, ObjectInfo]:
        """As BackupStore.commit, at each store; the manifests of those where it succeeded. When it is ended before it
        was at all of them, none is left."""
        results: dict[int, ObjectInfo | Exception] = {}
        try:
            for number, store in self.live.items():
                try:
                    results[number] = await store.commit(folder, manifest, confirm)
                except JobError:  # not the store's
                    raise
                except LiberuError as error:
                    results[number] = error
            return self._good(results)
        except BaseException:
            there = [self._stores[number] for number, found in results.items() if isinstance(found, ObjectInfo)]
            await asyncio.shield(self._retract(there, [folder], parts=False))
            raise

    async def withdraw(self, folder: BackupFolder) -> None:
        """As BackupStore.withdraw, at each store; one where it fails is dropped."""
        for number, store in self.live.items():
            try:
                await store.withdraw(folder)
            except LiberuError as error:
                self.drop(number, error)
        self.require_one()

    async def abandon(self, folder: BackupFolder) -> None:
        """What this attempt and earlier ones have stored, at each store, as far as it can be reached; the sweep finds
        what stays."""
        await self._abandon(folder, self._stores.values())

    async def abandon_lost(self, folder: BackupFolder) -> None:
        """As `abandon`, at the stores that were dropped."""
        await self._abandon(folder, [self._stores[number] for number in self.lost])

    async def retract(self, folder: BackupFolder, *, parts: bool) -> None:
        """Remove the manifests of this attempt and of earlier ones at each store, and then, with `parts`, all else.
        Tried a few times; the sweep finds what stays."""
        await self._retract(self._stores.values(), [folder, *folder.earlier], parts=parts)

    @staticmethod
    async def _retract(stores: Iterable[BackupStore], attempts: Sequence[BackupFolder], *, parts: bool) -> None:
        async def one(store: BackupStore) -> None:
            for pause in (*_PAUSES, None):
                try:
                    for attempt in attempts:
                        await store.withdraw(attempt)
                    for attempt in attempts if parts else ():
                        await store.abandon(attempt)
                    return
                except Exception as error:  # noqa: BLE001,RUF100  also a library's own: the other stores have their turn
                    if pause is None:
                        log.warning("A backup that was not made could not be removed: %s", error)
                    else:
                        await asyncio.sleep(pause)

        async def bounded(store: BackupStore) -> None:
            try:
                async with asyncio.timeout(_ABANDON_SECONDS):
                    await one(store)
            except TimeoutError:
                log.warning("A backup that was not made could not be removed: its destination does not answer")

        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(bounded(store))

    @staticmethod
    async def _abandon(folder: BackupFolder, stores: Iterable[BackupStore]) -> None:
        for store in stores:
            with suppress(LiberuError, TimeoutError):
                async with asyncio.timeout(_ABANDON_SECONDS):
                    for attempt in (folder, *folder.earlier):
                        await store.abandon(attempt)

    def verification(self, number: int) -> str:
        return self._stores[number].verification

    def _good(self, results: Mapping[int, T | Exception]) -> dict[int, T]:
        good = {number: result for number, result in results.items() if not isinstance(result, Exception)}
        for number, result in results.items():
            if isinstance(result, Exception) and (not good or not isinstance(result, LiberuError)):
                raise result
            if isinstance(result, LiberuError):
                self.drop(number, result)
        return good
