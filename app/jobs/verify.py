"""Reading a backup's copies to the last byte, to know that they are still whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.store import BackupStore
from app.db.models import Backup, BackupCopy, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.session import Database
from app.errors import ArchiveDamaged, ArchiveError, LiberuError, ManifestInvalid, NotFound, ObjectNotFound
from app.jobs.context import JobContext
from app.jobs.outcome import Apply, Outcome
from app.jobs.runner import Job
from app.services.destinations import DestinationService


@dataclass(slots=True)
class _Verdict:
    """On one copy. `damaged`: numbers of components; `away`: it could not be read now, which proves nothing."""

    destination_id: int
    damaged: set[int] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    away: LiberuError | None = None

    @property
    def state(self) -> str:
        if self.away is not None:
            return "unknown"
        return "damaged" if self.reasons else "whole"


class VerifyJob(Job):
    """Can be repeated. No key is needed: what is compared is what the signed manifest says of the stored bytes."""

    def __init__(self, database: Database, destinations: DestinationService) -> None:
        self._database = database
        self._destinations = destinations

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).get(operation.backup_id or 0)
            if backup is None:
                raise NotFound("The backup was deleted before the operation began")
            copies = backup.stored_copies
            places = await DestinationRepository(session).named([copy.destination_id for copy in copies])
        verdicts = []
        for copy, place in zip(copies, places, strict=True):
            context.track(place.id, place.name, "running")
            async with self._destinations.opened(place, copy.as_of) as store:
                verdict = await self._read(backup, copy, store, context)
            context.track(place.id, place.name, verdict.state)
            verdicts.append(verdict)
        return _outcome(backup, verdicts)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)

    @staticmethod
    async def _read(backup: Backup, copy: BackupCopy, store: BackupStore, context: JobContext) -> _Verdict:
        verdict = _Verdict(copy.destination_id)
        try:
            manifest = await store.read_manifest(copy.manifest_key)
            if manifest.backup_uid != backup.uid:
                raise ManifestInvalid(f"{copy.manifest_key} belongs to another backup")
            parts = [(entry.number, stored) for entry in manifest.components for stored in entry.objects]
            for number, stored in [*parts, (0, manifest.details)]:
                try:
                    await store.verify_object(stored, lambda stream: context.metered(copy.destination_id, stream))
                except (ArchiveDamaged, ObjectNotFound) as error:
                    verdict.reasons.append(error.message)
                    verdict.damaged.update({number} if number else _good(backup))
        except (ArchiveError, ObjectNotFound) as error:
            verdict.reasons.append(error.message)
            verdict.damaged = _good(backup)
        except LiberuError as error:
            verdict.away = error
        return verdict


def _good(backup: Backup) -> set[int]:
    return {part.number for part in backup.components if part.status == "completed"}


def _outcome(backup: Backup, verdicts: list[_Verdict]) -> Outcome:
    lost = set.intersection(*(verdict.damaged for verdict in verdicts)) if verdicts else _good(backup)
    bad = [verdict for verdict in verdicts if verdict.state != "whole"]
    result: dict[str, Any] = {
        "copies": [
            {
                "destination_id": verdict.destination_id,
                "state": verdict.state,
                "reasons": [verdict.away.message] if verdict.away else verdict.reasons,
            }
            for verdict in verdicts
        ],
        "lost_components": sorted(lost),
    }
    if not bad:
        return Outcome("completed", result, apply=_recorded(backup.id, verdicts, lost))
    message = "; ".join(bad[0].reasons or [bad[0].away.message if bad[0].away else ""])
    code = bad[0].away.code if bad[0].away else ArchiveDamaged.code
    status = "partial" if len(bad) < len(verdicts) else "failed"
    return Outcome(status, result, message, _recorded(backup.id, verdicts, lost), code)


def _recorded(backup_id: int, verdicts: list[_Verdict], lost: set[int]) -> Apply:
    async def apply(session: AsyncSession) -> None:
        backup = await BackupRepository(session).get(backup_id)
        if backup is None:
            return
        states = {verdict.destination_id: verdict for verdict in verdicts}
        for copy in backup.copies:
            verdict = states.get(copy.destination_id)
            if verdict is None or verdict.away is not None:
                continue
            copy.state = "damaged" if verdict.reasons else "stored"
            copy.verification = "none" if verdict.reasons else "read_back"
            copy.error_message = "; ".join(verdict.reasons) or None
        for part in backup.components:
            if part.number in lost:
                part.status, part.error_code = "failed", ArchiveDamaged.code
                part.error_message = "Damaged at every destination that has it; make a new backup"
        if lost and backup.status in ("completed", "partial"):
            backup.status = "partial" if _good(backup) else "failed"
            backup.error_message = f"Components that no copy has whole any more: {sorted(lost)}"

    return apply
