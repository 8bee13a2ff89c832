"""The safety copy of a restore: a backup like any other, listed, and deleted when the restore has gone well."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.manifest import StoredObject
from app.archives.mirror import MirroredStore
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import SafetyCopy
from app.db.base import new_uid, now
from app.db.models import Backup, Destination, Domain
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.session import Database
from app.errors import ComponentError, DumpIncomplete, LiberuError, NotFound
from app.jobs.context import JobContext, Result
from app.jobs.outcome import Apply
from app.jobs.writer import BackupRun, BackupWriter, Target, folder_of, recorded
from app.security.keys import KeyRing
from app.services.components import DomainSite, Planned

_PART = 1
OpenStore = Callable[[Destination], AbstractAsyncContextManager[BackupStore]]


@dataclass(frozen=True, slots=True)
class BackupSource:
    """What is copied, before what, and where to: as a rule the destination of the backup that is restored. Without
    one nothing can be stored; what was stored can be read and removed."""

    before: str
    domain: Domain
    site: DomainSite
    kind: str
    name: str
    destination: Destination | None = None
    store: BackupStore | None = None


class SafetyBackup(SafetyCopy):
    """Journalled under `safety`: its backup's uid before there is a row, where it is, and once it is whole what is
    needed to read it. `opened`: the store at a destination, which is opened only when the copy is read or removed."""

    def __init__(
        self,
        database: Database,
        writer: BackupWriter,
        keys: KeyRing,
        source: BackupSource,
        context: JobContext,
        journal: dict[str, Any],
        record: Callable[[dict[str, Any]], Awaitable[None]],
        opened: OpenStore,
    ) -> None:
        self._database = database
        self._writer = writer
        self._keys = keys
        self._source = source
        self._context = context
        self._journal = journal
        self._record = record
        self._opened = opened

    @property
    def stored(self) -> bool:
        return "object" in self._noted

    @property
    def name(self) -> str:
        return f"backup {self._noted.get('backup_id')} at destination {self._noted.get('destination')}"

    @property
    def _noted(self) -> dict[str, Any]:
        noted: dict[str, Any] = self._journal.get("safety") or {}
        return noted

    async def store(self) -> None:
        source = self._source
        if source.destination is None or source.store is None:
            raise ComponentError(f"No destination is open to store a safety copy of {source.name}")
        backup = await self._begin(source.destination)
        part = Planned(_PART, source.kind, source.name)
        run = BackupRun(
            backup=backup,
            domain=source.domain,
            site=source.site,
            folder=folder_of(backup, self._keys.installation, self._context.attempt),
            store=MirroredStore({source.destination.id: source.store}),
            targets=[Target(source.destination.id, source.destination.name)],
            # Never a customer's key alone: we must be able to open it.
            recipients=[self._keys.recipient] if source.destination.encrypt else [],
            items=[part],
        )
        self._context.track(0, f"safety copy of {source.name}", "running")
        result = await self._writer.dump(run, part, self._context, None, progress=0)
        self._context.track(0, f"safety copy of {source.name}", "completed")
        if result["incomplete"]:
            named = "; ".join(f"{lack['subject']}: {lack['message']}" for lack in result["incomplete"][:5])
            raise DumpIncomplete(f"the copy would not be whole: {named}")
        await self._committed(run, result)

    async def _begin(self, destination: Destination) -> Backup:
        """Its row, journalled first: one that an earlier attempt had begun, or a new one. Locked while it is needed:
        no clean-up removes it."""
        if self.stored or self._noted.get("destination_id", destination.id) != destination.id:
            await self._put_aside()
        if not self._noted:
            place = {"destination_id": destination.id, "destination": destination.name}
            await self._record({"safety": {"uid": new_uid(), **place}})
        source, uid = self._source, self._noted["uid"]
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).by_uid(uid)
            if backup is None:
                backup = Backup(
                    uid=uid,
                    domain_id=source.domain.id,
                    domain_uid=source.domain.uid,
                    domain_name=source.domain.domain_name,
                    user_id=source.domain.user_id,
                    destination_id=destination.id,
                    type="database",
                    name=f"{source.name} before {source.before}",
                    is_automated=True,
                    components=[],
                    copies=[],
                )
                session.add(backup)
            backup.status, backup.locked, backup.started_at = "running", True, now()
            await session.flush()
        await self._record({"safety": {**self._noted, "backup_id": backup.id}})
        return backup

    async def _put_aside(self) -> None:
        """What is live may have changed since an earlier attempt stored its copy."""
        try:
            await self.discard()
        except LiberuError:  # it is `deleting`: the clean-up removes it
            await self._record({"safety": None})

    async def _committed(self, run: BackupRun, result: Result) -> None:
        committed = await self._writer.commit(run, [result], self._context.beat)
        async with self._database.transaction() as session:
            await recorded(run, [result], committed, None)(session)
        stored = {key: result[key] for key in ("object", "plain_size", "plain_sha256")}
        noted = {**self._noted, "manifest_key": committed["manifest_key"], **stored}
        await self._record({"safety": noted | {"encrypted": bool(run.recipients)}})

    async def open(self) -> ByteStream:
        noted = self._noted
        identities = [self._keys.identity] if noted["encrypted"] else None
        stored = StoredObject(**noted["object"])
        async with self._place() as store:
            plain = store.open_component(stored, noted["plain_size"], noted["plain_sha256"], identities)
            async with aclosing(plain):
                async for chunk in plain:
                    yield chunk

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[BackupStore, None]:
        """The store that has the copy. Raises NotFound when its destination was deleted, StorageError."""
        source, number = self._source, self._noted["destination_id"]
        if source.store is not None and source.destination is not None and source.destination.id == number:
            yield source.store
            return
        async with self._database.transaction() as session:
            destination = await DestinationRepository(session).get(number)
        if destination is None:
            raise NotFound(f"The destination {self._noted['destination']} is gone, and {self.name} with it")
        async with self._opened(destination) as store:
            yield store

    async def discard(self) -> None:
        """From the first moment on it does not count as stored; cut short it is a backup that is `deleting`, which
        the clean-up removes."""
        noted = self._noted
        if not noted:
            return
        await self._record({"safety": {key: value for key, value in noted.items() if key != "object"}})
        async with self._database.transaction() as session:
            await _ended(BackupRepository(session), noted["uid"], "It was not needed any more")
        remains = None
        if "manifest_key" in noted:
            async with self._place() as store:
                remains = await store.delete(noted["manifest_key"])
        async with self._database.transaction() as session:
            repository = BackupRepository(session)
            backup = await repository.by_uid(noted["uid"])
            if backup is not None and remains is not None and remains.locked:
                backup.status, backup.error_message = "deleting", str(remains)  # the next clean-up ends it
            elif backup is not None:
                await repository.delete(backup)
        await self._record({"safety": None})


def safety_ended(journal: dict[str, Any]) -> Apply:
    """When an operation has ended: safety copies that were being made are failed backups, those that are whole are
    deleted by the next clean-up. One that is still needed to put right what is live stays as it is."""
    parts = [part for part in journal.values() if isinstance(part, dict) and not part.get("unsettled")]
    uids = [part["safety"]["uid"] for part in parts if part.get("safety")]

    async def apply(session: AsyncSession) -> None:
        for uid in uids:
            await _ended(BackupRepository(session), uid, "The restore it was made for ended first")

    return apply


async def _ended(repository: BackupRepository, uid: str, message: str) -> None:
    backup = await repository.by_uid(uid)
    if backup is None:
        return
    backup.locked = False
    if backup.status == "running":
        backup.status, backup.completed_at, backup.error_message = "failed", now(), message
    elif backup.status in ("completed", "partial"):
        backup.status = "deleting"
        for copy in backup.copies:
            copy.state = "deleting"
    await repository.flush()
