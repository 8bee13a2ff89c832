"""Removes what interrupted backups have left at one destination."""

from __future__ import annotations

from datetime import timedelta

from app.db.base import now
from app.db.models import Operation
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.operations import OperationRepository
from app.db.session import Database
from app.jobs.context import JobContext
from app.jobs.outcome import Outcome
from app.jobs.runner import Job
from app.services.destinations import DestinationService

_NAMED = 1000


class SweepJob(Job):
    """While backups run: whose operation is active is asked before anything is listed, and what is younger than the
    grace period is left alone."""

    def __init__(self, database: Database, destinations: DestinationService, installation: str) -> None:
        self._database = database
        self._destinations = destinations
        self._installation = installation

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        dry_run: bool = operation.request["dry_run"]
        before = now() - timedelta(hours=operation.request["grace_hours"])
        async with self._database.transaction() as session:
            [destination] = await DestinationRepository(session).named([operation.destination_id or 0])
            operations = await OperationRepository(session).active()
        active = [f"-{one.domain_uid}/" for one in operations]
        since = min((one.created_at for one in operations if one.uid != operation.uid), default=None)
        context.track(1, "leftovers", "running")
        async with self._destinations.opened(destination) as store:
            removed = await store.sweep(
                self._installation,
                before,
                lambda key: any(uid in key for uid in active),
                puts_since=since,
                dry_run=dry_run,
            )
        context.track(1, "leftovers", "completed")
        result = {
            "dry_run": dry_run,
            "removed_count": len(removed),
            "removed_bytes": sum(info.size for info in removed),
            "removed": [info.key for info in removed[:_NAMED]],
        }
        return Outcome("completed", result)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)
