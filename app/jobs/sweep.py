"""Removes what interrupted backups have left at one destination."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from app.archives.store import BackupStore
from app.archives.swept import Swept
from app.db.base import now
from app.db.models import Destination, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.operations import OperationRepository
from app.db.session import Database
from app.jobs.cleanup import planned_at
from app.jobs.context import JobContext
from app.jobs.lock_extension import extend_locks, failure_of
from app.jobs.outcome import Outcome
from app.jobs.runner import Job
from app.services.destinations import DestinationService
from app.services.locks import lock_extension
from app.services.retention import GOOD
from app.storage.base import ObjectInfo, Remains

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
            known = await BackupRepository(session).counted_on(destination.id)
            given_up = await BackupRepository(session).given_up()
        context.track(1, "leftovers", "running")
        others = [one for one in operations if one.uid != operation.uid]
        left = list[tuple[ObjectInfo, Remains]]()
        async with self._destinations.opened(destination) as store:
            hidden = await store.hidden(self._installation)
            swept = await remove_leftovers(
                store,
                self._installation,
                before,
                others,
                dry_run=dry_run,
                known=known,
                given_up=given_up,
                hidden=hidden,
                forget_hidden=operation.request.get("hidden", False),
                left=lambda info, remains: left.append((info, remains)),
            )
        context.track(1, "leftovers", "completed")
        remains = Remains.of_all(one for _, one in left)
        result: dict[str, Any] = {
            "dry_run": dry_run,
            "removed_count": swept.count,
            "removed_bytes": swept.bytes,
            "removed": [info.key for info in swept.removed],
            "refused_count": swept.refused_count,
            "refusals": swept.refused,
            "remains": None if remains is None else str(remains),
            "hidden_count": len(hidden.manifests),
            "hidden_bytes": hidden.size,
            "hidden": hidden.manifests[:_NAMED],
        }
        if dry_run:
            return Outcome("completed", result)
        locks = await self._extend_locks(destination, context)
        unlocked = failure_of(locks)
        return Outcome("completed" if unlocked is None else "partial", result | locks, unlocked)

    async def _extend_locks(self, destination: Destination, context: JobContext) -> dict[str, Any]:
        """Where no schedule runs, no clean-up does it."""
        if lock_extension(destination, now()) is None:
            return {}
        async with self._database.transaction() as session:
            keep, _, backups = await planned_at(session, destination)
        kept = [backups[entry["id"]] for entry in keep if backups[entry["id"]].status in GOOD]
        return await extend_locks(self._destinations, destination, kept, context.beat)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)


async def remove_leftovers(
    store: BackupStore,
    installation: str,
    before: datetime,
    active: Sequence[Operation],
    *,
    dry_run: bool,
    **about: Any,
) -> Swept:
    """What is older than `before`, of no domain that has an operation in `active`, which was asked for before.
    `about`: see BackupStore.sweep."""
    domains = [f"-{one.domain_uid}/" for one in active]
    return await store.sweep(
        installation,
        before,
        lambda key: any(domain in key for domain in domains),
        puts_since=min((one.created_at for one in active), default=None),
        dry_run=dry_run,
        **about,
    )
