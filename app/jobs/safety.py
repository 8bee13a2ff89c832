"""The safety copy of a restore: a backup like any other, listed, and deleted when the restore has gone well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.manifest import StoredObject
from app.archives.mirror import MirroredStore
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import SafetyCopy
from app.db.base import now
from app.db.models import Backup, Destination, Domain
from app.db.repositories.backups import BackupRepository
from app.db.session import Database
from app.errors import DumpIncomplete
from app.jobs.context import JobContext, Result
from app.jobs.outcome import Apply
from app.jobs.writer import BackupRun, BackupWriter, Target, folder_of, recorded
from app.security.keys import KeyRing
from app.services.components import DomainSite, Planned

_PART = 1


@dataclass(frozen=True, slots=True)
class BackupSource:
    """What is copied, before what, and where to: as a rule the destination of the backup that is restored."""

    before: str
    domain: Domain
    site: DomainSite
    destination: Destination
    store: BackupStore
    kind: str
    name: str


class SafetyBackup(SafetyCopy):
    """Journalled under `safety`: its backup's id, and once it is whole what is needed to read it."""

    def __init__(
        self,
        database: Database,
        writer: BackupWriter,
        keys: KeyRing,
        source: BackupSource,
        context: JobContext,
        journal: dict[str, Any],
        record: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._database = database
        self._writer = writer
        self._keys = keys
        self._source = source
        self._context = context
        self._journal = journal
        self._record = record

    @property
    def stored(self) -> bool:
        return "object" in self._noted

    @property
    def name(self) -> str:
        return f"backup {self._noted.get('backup_id')}"

    @property
    def _noted(self) -> dict[str, Any]:
        noted: dict[str, Any] = self._journal.get("safety") or {}
        return noted

    async def store(self) -> None:
        backup = await self._begin()
        source = self._source
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

    async def _begin(self) -> Backup:
        source = self._source
        async with self._database.transaction() as session:
            known = await BackupRepository(session).get(self._noted.get("backup_id") or 0)
            if known is not None:
                return known
            backup = Backup(
                domain_id=source.domain.id,
                domain_uid=source.domain.uid,
                domain_name=source.domain.domain_name,
                user_id=source.domain.user_id,
                destination_id=source.destination.id,
                type="database",
                name=f"{source.name} before {source.before}",
                status="running",
                started_at=now(),
                is_automated=True,
                components=[],
                copies=[],
            )
            session.add(backup)
            await session.flush()
        await self._record({"safety": {"backup_id": backup.id}})
        return backup

    async def _committed(self, run: BackupRun, result: Result) -> None:
        committed = await self._writer.commit(run, [result], self._context.beat)
        async with self._database.transaction() as session:
            await recorded(run, [result], committed, None)(session)
        stored = {key: result[key] for key in ("object", "plain_size", "plain_sha256")}
        noted = {"backup_id": run.backup.id, "manifest_key": committed["manifest_key"], **stored}
        await self._record({"safety": noted | {"encrypted": bool(run.recipients)}})

    def open(self) -> ByteStream:
        noted = self._noted
        identities = [self._keys.identity] if noted["encrypted"] else None
        stored = StoredObject(**noted["object"])
        return self._source.store.open_component(stored, noted["plain_size"], noted["plain_sha256"], identities)

    async def discard(self) -> None:
        noted = self._noted
        if not noted:
            return
        remains = await self._source.store.delete(noted["manifest_key"]) if "manifest_key" in noted else None
        async with self._database.transaction() as session:
            repository = BackupRepository(session)
            backup = await repository.get(noted["backup_id"])
            if backup is not None and remains is not None and remains.locked:
                backup.status, backup.error_message = "deleting", str(remains)  # the next clean-up ends it
            elif backup is not None:
                await repository.delete(backup)
        await self._record({"safety": None})


def safety_ended(journal: dict[str, Any]) -> Apply:
    """Safety copies that were being made when their restore ended are failed backups."""
    ids = [(part.get("safety") or {}).get("backup_id") for part in journal.values() if isinstance(part, dict)]

    async def apply(session: AsyncSession) -> None:
        for backup_id in ids:
            backup = await BackupRepository(session).get(backup_id or 0)
            if backup is not None and backup.status == "running":
                backup.status, backup.completed_at = "failed", now()
                backup.error_message = "The restore it was made for ended first"

    return apply
