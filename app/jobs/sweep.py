"""Removes what interrupted backups have left at one destination."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.archives.store import BackupStore
from app.archives.swept import Swept
from app.db.base import now
from app.db.models import Operation
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.operations import OperationRepository
from app.db.session import Database
from app.jobs.context import JobContext
from app.jobs.outcome import Outcome
from app.jobs.runner import Job
from app.services.destinations import DestinationService


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
        context.track(1, "leftovers", "running")
        others = [one for one in operations if one.uid != operation.uid]
        async with self._destinations.opened(destination) as store:
            swept = await remove_leftovers(store, self._installation, before, others, dry_run=dry_run)
        context.track(1, "leftovers", "completed")
        result = {
            "dry_run": dry_run,
            "removed_count": swept.count,
            "removed_bytes": swept.bytes,
            "removed": [info.key for info in swept.removed],
            "refused_count": swept.refused_count,
            "refusals": swept.refused,
        }
        return Outcome("completed", result)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)


async def remove_leftovers(
    store: BackupStore, installation: str, before: datetime, active: Sequence[Operation], *, dry_run: bool
) -> Swept:
    """What is older than `before`, of no domain that has an operation in `active`, which was asked for before."""
    domains = [f"-{one.domain_uid}/" for one in active]
    return await store.sweep(
        installation,
        before,
        lambda key: any(domain in key for domain in domains),
        puts_since=min((one.created_at for one in active), default=None),
        dry_run=dry_run,
    )
