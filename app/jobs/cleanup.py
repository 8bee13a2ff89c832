"""Retention at one destination: what no rule keeps is deleted there, then its row (see Removal). The rules are the
destination's; a schedule may have its own for what it has made."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import now
from app.db.models import Backup, Destination, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.schedules import ScheduleRepository
from app.db.session import Database
from app.errors import LiberuError, ObjectLocked
from app.jobs.context import JobContext
from app.jobs.lock_extension import extend_locks, failure_of
from app.jobs.outcome import Outcome
from app.jobs.runner import Job
from app.services.destinations import DestinationService
from app.services.removal import Removal
from app.services.retention import GOOD, Candidate, RetentionPolicy, plan_retention

_NAMED = 1000
_STAYS = "locked, in use or gone by now"
Entry = dict[str, Any]


class CleanupJob(Job):
    """Deleting can be repeated: after a restart the plan is made anew from what is left."""

    def __init__(self, database: Database, destinations: DestinationService, removal: Removal) -> None:
        self._database = database
        self._destinations = destinations
        self._removal = removal

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        run_id = operation.request.get("schedule_run_id")
        async with self._database.transaction() as session:
            [destination] = await DestinationRepository(session).named([operation.destination_id or 0])
            keep, remove, backups = await planned_at(session, destination, run_id)
        if operation.request["dry_run"]:
            return _outcome(keep, remove, [], [], {}, dry_run=True)
        kept = [backups[entry["id"]] for entry in keep if backups[entry["id"]].status in GOOD]
        context.track(1, "backups", "running")
        removed, failed, held = await self._removed(destination, keep, remove, context) if remove else ([], [], [])
        context.track(1, "backups", "completed")
        locks = await extend_locks(self._destinations, destination, kept, context.beat)
        return _outcome(keep, removed, failed, held, locks, dry_run=False)

    async def _removed(
        self, destination: Destination, keep: list[Entry], remove: list[Entry], context: JobContext
    ) -> tuple[list[Entry], list[Entry], list[Entry]]:
        """What was removed, what could not be, and what the destination holds for a time; `keep` gets what may not go
        any more. Nothing is begun where the destination is not there."""
        removed, failed, held = list[Entry](), list[Entry](), list[Entry]()
        async with self._destinations.opened(destination) as store:
            try:
                await store.confirm()
            except LiberuError as error:
                return [], [_failed(entry, error) for entry in remove], []
            for number, entry in enumerate(remove):
                context.note(1, done=number, total=len(remove))
                await context.beat()
                try:
                    gone = await self._removal.at(store, destination.id, entry["id"])
                except ObjectLocked as error:
                    held.append(_failed(entry, error))
                except LiberuError as error:
                    failed.append(_failed(entry, error))
                else:
                    if gone is None:
                        keep.append({**entry, "reasons": [_STAYS]})
                    else:
                        removed.append(entry if gone.remains is None else {**entry, "remains": str(gone.remains)})
        return removed, failed, held

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)


def _failed(entry: Entry, error: LiberuError) -> Entry:
    return {**entry, "code": error.code, "message": error.message}


async def planned_at(
    session: AsyncSession, destination: Destination, run_id: int | None = None
) -> tuple[list[Entry], list[Entry], dict[int, Backup]]:
    """What is kept at a destination, what goes, and the backups by id. `run_id`: what this run of a schedule
    concerns."""
    backups = await BackupRepository(session).at_destination(destination.id, run_id)
    schedules = ScheduleRepository(session)
    own = {number: RetentionPolicy(**rules) for number, rules in (await schedules.retentions()).items()}
    run = None if run_id is None else await schedules.run(run_id)
    if run_id is not None:  # its schedule's rules decide, or the destination's; nothing, when it was deleted
        governed = run.schedule_id if run is not None and run.schedule_id in own else None
        backups = [] if run is None else [one for one in backups if _governed(one, own) == governed]
    if destination.user_id is not None:  # its owner's rules are not for what others keep there
        backups = [backup for backup in backups if backup.user_id == destination.user_id]
    policy = RetentionPolicy(days=destination.retention_days, **destination.retention)
    keep, remove = _planned(destination, backups, policy, own)
    return keep, remove, {backup.id: backup for backup in backups}


def _governed(backup: Backup, own: dict[int, RetentionPolicy]) -> int | None:
    """The schedule whose rules decide; None: the destination's do."""
    return backup.schedule_id if backup.schedule_id in own else None


def _planned(
    destination: Destination, backups: list[Backup], policy: RetentionPolicy, own: dict[int, RetentionPolicy]
) -> tuple[list[Entry], list[Entry]]:
    groups: dict[tuple[str, int | None], list[Backup]] = defaultdict(list)
    for backup in backups:
        groups[backup.domain_uid, _governed(backup, own)].append(backup)
    keep: list[Entry] = []
    remove: list[Entry] = []
    for (_, schedule_id), group in groups.items():
        rules = policy if schedule_id is None else own[schedule_id]
        plan = plan_retention([_candidate(backup, destination.id) for backup in group], rules, now())
        rows = {backup.id: backup for backup in group}
        for ids, into in ((plan.keep, keep), (plan.remove, remove)):
            for number in ids:
                name = rows[number].domain_name
                into.append({"id": number, "domain_name": name, "reasons": plan.reasons[number]})
    return keep, remove


def _candidate(backup: Backup, destination_id: int) -> Candidate:
    """The copy here counts, not those elsewhere: one that was never stored is no backup here, one that is being
    deleted goes, and one that is damaged, where another is whole, protects nothing."""
    here = {copy.state for copy in backup.copies if copy.destination_id == destination_id}
    status = backup.status
    if status in GOOD and "stored" not in here:
        status = next((state for state in ("deleting", "failed") if state in here), status)
    good = frozenset((part.kind, part.name) for part in backup.components if part.status == "completed")
    if "damaged" in here and any(copy.state == "stored" for copy in backup.copies):
        good = frozenset()
    return Candidate(backup.id, backup.type, status, backup.created_at, backup.locked, good)


def _outcome(
    keep: list[Entry],
    removed: list[Entry],
    failed: list[Entry],
    locked: list[Entry],
    locks: dict[str, Any],
    *,
    dry_run: bool,
) -> Outcome:
    """Counts are whole; of long lists the first thousand are named. `locked`: what the destination keeps for a time;
    `locks`: see extend_locks."""
    result = {
        "dry_run": dry_run, "kept_count": len(keep), "removed_count": len(removed), "failed_count": len(failed),
        "kept": keep[:_NAMED], "removed": removed[:_NAMED], "failed": failed[:_NAMED],
        "locked_count": len(locked), "locked": locked[:_NAMED], **locks,
    }  # fmt: skip
    unlocked = failure_of(locks)
    if not failed and unlocked is not None:
        return Outcome("partial", result, unlocked, code=locks["locks_failed"][0]["code"])
    if not failed:
        return Outcome("completed", result)
    message = f"{len(failed)} backups could not be deleted, the first because: {failed[0]['message']}"
    message += f". {unlocked}" if unlocked else ""
    return Outcome("partial" if removed else "failed", result, message, code=failed[0]["code"])
