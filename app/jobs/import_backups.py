"""An import that stores what is in the archive as backups of ours, one for each domain, and restores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.mirror import MirroredStore
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import FOREIGN, Dump, Report
from app.db.base import now
from app.db.models import Backup, Destination, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.session import Database
from app.errors import LiberuError
from app.jobs.backup import set_status
from app.jobs.context import JobContext, Result
from app.jobs.import_plan import ImportItem
from app.jobs.outcome import Apply
from app.jobs.writer import BackupRun, BackupWriter, Target, ended, folder_of, recorded
from app.security.keys import KeyRing
from app.services.components import DomainSite, Planned

#: A part's stream and the list that its warnings go to.
Streamed = Callable[[ImportItem, list[str]], ByteStream]
JOURNAL = "stored"


@dataclass(frozen=True, slots=True)
class ImportBackups:
    database: Database
    keys: KeyRing
    destination: Destination
    store: BackupStore
    recipients: list[str]
    operation: Operation
    context: JobContext

    async def store_domain(
        self, domain: Domain, site: DomainSite, items: Sequence[ImportItem], streamed: Streamed
    ) -> list[Result]:
        """One backup of `items`; its parts are durable steps, so a restart goes on after the last."""
        begun = await self.context.step(f"begin-{domain.id}", lambda: self._begin(domain))
        async with self.database.transaction() as session:
            backup = await BackupRepository(session).get(begun["backup_id"])
        assert backup is not None
        run = BackupRun(
            backup=backup,
            domain=domain,
            site=site,
            folder=folder_of(backup, self.keys.installation, self.operation.attempt),
            store=MirroredStore({self.destination.id: self.store}),
            targets=[Target(self.destination.id, self.destination.name)],
            recipients=self.recipients,
            items=[Planned(item.number, item.component, item.name) for item in items],
        )
        writer = BackupWriter()
        results = [await self._part(writer, run, item, streamed) for item in items]
        committed = None
        if any(result["status"] == "completed" for result in results):
            committed = await self.context.step(
                f"commit-{domain.id}", lambda: writer.commit(run, results, self.context.beat)
            )
        else:
            await run.store.abandon(run.folder)
        failures = [f"{r['kind']} {r['name']}: {r['message']}" for r in results if r["status"] == "failed"]
        async with self.database.transaction() as session:
            await recorded(run, results, committed, "; ".join(failures) or None)(session)
        status, _ = ended(run, results, committed)
        facts = {"backup_id": backup.id, "backup_status": status}
        return [{**_shown(result), **item.as_json(), **facts} for item, result in zip(items, results, strict=True)]

    async def _begin(self, domain: Domain) -> Result:
        backup = Backup(
            domain_id=domain.id,
            domain_uid=domain.uid,
            domain_name=domain.domain_name,
            user_id=domain.user_id,
            destination_id=self.destination.id,
            type="full",
            name=f"{domain.domain_name} from import {self.operation.id}",
            status="running",
            started_at=now(),
            components=[],
            copies=[],
        )
        async with self.database.transaction() as session:
            session.add(backup)
            await session.flush()
        noted = self.operation.journal.setdefault(JOURNAL, {"backup_ids": []})
        noted["backup_ids"].append(backup.id)
        await self.context.record(journal=self.operation.journal)
        return {"backup_id": backup.id}

    async def _part(self, writer: BackupWriter, run: BackupRun, item: ImportItem, streamed: Streamed) -> Result:
        part = Planned(item.number, item.component, item.name)
        label = f"{item.kind} {item.source}"

        async def work() -> Result:
            self.context.track(item.number, label, "running")
            report, warnings = Report(facts={FOREIGN: True}), list[str]()
            try:
                dump = Dump(streamed(item, warnings), report)
                result = await writer.store(run, part, dump, self.context)
            except LiberuError as error:
                named = {"number": part.number, "kind": part.kind, "name": part.name}
                result = {**named, "status": "failed", "code": error.code, "message": error.message}
            else:
                for text in warnings:
                    report.warn("left_out", text)
                result["warnings"] = [warning.model_dump() for warning in report.warnings]
            self.context.track(item.number, label, result["status"])
            return result

        return await self.context.step(f"store-{item.number}", work)


def _shown(result: Result) -> Result:
    """Of a stored part, what people need."""
    return {key: result[key] for key in ("status", "code", "message", "warnings", "incomplete") if key in result}


def abandoned(operation: Operation, status: str, message: str | None) -> Apply:
    """Backups that were being made when their import ended, end as it did."""
    ids = operation.journal.get(JOURNAL, {}).get("backup_ids", [])

    async def apply(session: AsyncSession) -> None:
        for backup_id in ids:
            await set_status(backup_id, status, message)(session)

    return apply
