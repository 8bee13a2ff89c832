"""DownloadService: one component of a backup, decrypted, as a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from app.archives.layout import plain_name
from app.archives.streams import ByteStream
from app.db.repositories.destinations import DestinationRepository
from app.errors import Forbidden, ManifestInvalid, NotFound, NotRestorable
from app.security.keys import KeyRing
from app.security.tokens import Principal
from app.services.backups import BackupService
from app.services.components import OBJECTS
from app.services.destinations import DestinationService
from app.services.unit import Unit


@dataclass(frozen=True, slots=True)
class Download:
    """`size` in bytes. `stream` has begun: close it."""

    name: str
    size: int
    stream: AsyncGenerator[bytes, None]


class DownloadService:
    def __init__(self, backups: BackupService, destinations: DestinationService, keys: KeyRing) -> None:
        self._backups = backups
        self._destinations = destinations
        self._keys = keys

    async def open(self, unit: Unit, principal: Principal, backup_id: int, number: int) -> Download:
        """Decrypted with our own key. The stream's last chunk comes only when size and hash are right.

        Raises NotFound, Forbidden, NotRestorable, StorageError, ArchiveError before the first byte.
        """
        principal.require("backups:restore")
        backup = await self._backups.get(unit, principal, backup_id)
        if backup.status not in ("completed", "partial") or not backup.stored_copies:
            raise NotRestorable(f"Backup {backup_id} is {backup.status}: it has nothing to download")
        kinds = {part.number: part.kind for part in backup.components if part.status == "completed"}
        if number not in kinds:
            raise NotFound(f"Backup {backup_id} has no good component {number}")
        if kinds[number] == OBJECTS and not principal.operator:  # Secrets that its tenant may not read
            raise Forbidden("Objects of a namespace are given to an operator's token only")
        copy = backup.stored_copies[0]
        destination = await DestinationRepository(unit.session).get(copy.destination_id)
        if destination is None:
            raise NotFound(f"The destination of backup {backup_id} is gone")
        await unit.release()
        stack = AsyncExitStack()
        try:
            store = await stack.enter_async_context(self._destinations.opened(destination, copy.as_of))
            manifest = await store.read_manifest(copy.manifest_key)
            if manifest.backup_uid != backup.uid:
                raise ManifestInvalid(f"{copy.manifest_key} belongs to another backup")
            details = await store.read_details(manifest, [self._keys.identity])
            entry, part = manifest.component(number), details.component(number)
            identities = [self._keys.identity] if entry.encryption else None
            plain = store.open_component(entry.objects[0], part.plain_size, part.plain_sha256, identities)
            first = await anext(plain, b"")
        except BaseException:
            await asyncio.shield(stack.aclose())
            raise
        name = plain_name(backup.domain_name, backup.created_at, part.kind, part.name)
        return Download(name, part.plain_size, _whole(stack, first, plain))


async def _whole(stack: AsyncExitStack, first: bytes, rest: ByteStream) -> AsyncGenerator[bytes, None]:
    async with stack, aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
