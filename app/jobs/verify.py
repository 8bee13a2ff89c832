"""Reading a backup's copies to the last byte, to know that they are still whole."""

from __future__ import annotations

from functools import partial
from typing import Any

from app.db.models import Backup, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.session import Database
from app.errors import ArchiveDamaged, NotFound
from app.jobs.context import JobContext
from app.jobs.judging import Verdict, judge, lost_everywhere, recorded
from app.jobs.outcome import Outcome
from app.jobs.runner import Job
from app.services.destinations import DestinationService


class VerifyJob(Job):
    """Can be repeated: a later one lifts what an earlier one has said, when all is whole."""

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
                verdict = await judge(backup, copy, store, partial(context.metered, copy.destination_id))
            context.track(place.id, place.name, verdict.state)
            verdicts.append(verdict)
        return _outcome(backup, verdicts)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)


def _outcome(backup: Backup, verdicts: list[Verdict]) -> Outcome:
    lost = lost_everywhere(backup, verdicts)
    bad = [verdict for verdict in verdicts if verdict.state != "whole"]
    result: dict[str, Any] = {
        "copies": [
            {"destination_id": verdict.destination_id, "state": verdict.state, "reasons": verdict.said}
            for verdict in verdicts
        ],
        "lost_components": sorted(lost),
    }
    apply = recorded(backup.id, verdicts, lost)
    if not bad:
        return Outcome("completed", result, apply=apply)
    first = bad[0]
    code = first.away.code if first.away is not None and not first.reasons else ArchiveDamaged.code
    status = "partial" if len(bad) < len(verdicts) else "failed"
    return Outcome(status, result, "; ".join(first.said), apply, code)
