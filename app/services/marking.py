"""Marking: whether a destination is the place that was prepared for it, told by a small object that lies there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from functools import partial

from app.archives.compression import Compressor
from app.archives.layout import is_marker, marker_key
from app.archives.store import BackupStore
from app.archives.streams import from_bytes
from app.db.base import now
from app.db.models import Destination
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.session import Database
from app.errors import ArchiveError, ConsentRequired, DestinationNotPrepared, NoPast, ObjectNotFound, StorageError
from app.security.keys import KeyRing
from app.storage.base import StorageDriver
from app.storage.prepared import PreparedDriver

log = logging.getLogger(__name__)
_MAX_BYTES = 4096
#: Of the newest recorded backups, so many are looked for: the very last ones may have been deleted by hand.
_LOOKED_FOR = 20


class Marking:
    """A marker holds its format, our installation and the destination's uid, and has both in its key too: several
    installations and destinations may share a place. It is written once: when a place is made, prepared, or first
    used while nothing is recorded there or a recorded backup really lies there. From then on it must be there."""

    def __init__(self, database: Database, keys: KeyRing, compressor: Compressor) -> None:
        self._database = database
        self._keys = keys
        self._compressor = compressor
        self._first: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def guarded(self, destination: Destination, driver: StorageDriver) -> PreparedDriver:
        """`driver`, for what must not take another place, or none, for an empty destination."""
        return PreparedDriver(driver, partial(self._check, destination), is_marker)

    async def prepare(self, destination: Destination, driver: StorageDriver, *, accept_missing: bool) -> None:
        """Take what `driver` leads to for the destination from now on, and make it where it can be made.

        Raises ConsentRequired when backups are recorded and none of the newest is there, unless `accept_missing`;
        StorageError.
        """
        if await self._marked(destination, driver):
            await self._record(destination)
            return
        keys = await self._recorded(destination)
        if keys and not accept_missing and not await self._holds(driver, keys):
            raise ConsentRequired(
                f"Of the newest {len(keys)} backups that are recorded at {destination.name} none is there: mount the "
                "right disk, or correct the destination. If they are lost, say so with accept_missing_backups",
                field="accept_missing_backups",
            )
        await driver.make_place()
        await self._mark(destination, driver)

    async def _check(
        self, destination: Destination, driver: StorageDriver, past: StorageDriver | None = None
    ) -> None:
        """Raises DestinationNotPrepared, StorageError. A first use prepares, where that cannot be wrong; where
        nothing can be written, the same is asked again at the next one. `past`: the place as it was, where a marker
        is as good: whoever deleted the backups may have deleted it too."""
        if await self._marked(destination, driver):
            if destination.prepared_at is None:
                await self._record(destination)
            return
        async with self._first[destination.id]:
            if await self._marked(destination, driver):  # by another task meanwhile
                return
            async with self._database.transaction() as session:
                row = await DestinationRepository(session).get(destination.id)
                known = row is None or row.uid != destination.uid or row.prepared_at is not None
            keys = await self._recorded(destination)
            if known or (keys and not await self._holds(driver, keys)):
                if past is not None and await self._marked(destination, past):
                    return
                raise DestinationNotPrepared(await _described(destination, driver))
            try:
                await self._mark(destination, driver)
            except DestinationNotPrepared:
                raise
            except (
                StorageError
            ) as error:  # full, or read-only: it must still be possible to read there, and to clean up
                log.warning("Destination %s cannot be marked: %s", destination.id, error.message)

    def _content(self, destination: Destination) -> dict[str, object]:
        return {"format": 1, "installation": self._keys.installation, "destination": destination.uid}

    async def _marked(self, destination: Destination, driver: StorageDriver) -> bool:
        """Whether the marker is there, and whole."""
        key = marker_key(self._keys.installation, destination.uid)
        content = b""
        try:
            async with aclosing(driver.get(key)) as chunks:
                async for chunk in chunks:
                    content += chunk
                    if len(content) > _MAX_BYTES:
                        break
        except ObjectNotFound:
            return False
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        return bool(found == self._content(destination))

    async def _mark(self, destination: Destination, driver: StorageDriver) -> None:
        key = marker_key(self._keys.installation, destination.uid)
        content = json.dumps(self._content(destination)).encode()
        try:
            await driver.put(key, from_bytes(content), len(content))
        except ObjectNotFound as error:
            raise DestinationNotPrepared(
                f"The folder of {destination.name} is not there: make it at the server, or correct the destination"
            ) from error
        if not await self._marked(destination, driver):
            raise StorageError(f"{key} is not what was written; {destination.name} is not prepared")
        await self._record(destination)

    async def _record(self, destination: Destination) -> None:
        moment = now()
        async with self._database.transaction() as session:
            await DestinationRepository(session).note_prepared(destination.id, moment)
        destination.prepared_at = destination.prepared_at or moment

    async def _recorded(self, destination: Destination) -> dict[str, datetime | None]:
        async with self._database.transaction() as session:
            return await BackupRepository(session).newest_manifest_keys(destination.id, _LOOKED_FOR)

    async def _holds(self, driver: StorageDriver, keys: Mapping[str, datetime | None]) -> bool:
        """Whether an authentic one of these manifests is there, as of when it is read."""
        store = BackupStore(driver, self._compressor, self._keys.signer)
        for key, as_of in keys.items():
            try:
                await store.at(as_of).read_manifest(key)
            except (ObjectNotFound, NoPast, ArchiveError):
                continue
            return True
        return False


async def _described(destination: Destination, driver: StorageDriver) -> str:
    found: AsyncGenerator[object, None] = driver.list()
    async with aclosing(found):
        empty = await anext(found, None) is None
    what = "is empty" if empty else "holds other things, or the backups without their marker"
    return (
        f"The place of {destination.name} {what}: the disk may not be mounted, or it is another folder or bucket. "
        "Nothing was written or judged there. Bring back the right one or, if this is it, prepare the destination"
    )
