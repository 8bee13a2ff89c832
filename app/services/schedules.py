"""ScheduleService: automatic backups, when they are due and what came of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.db.base import now
from app.db.models import BackupSchedule, Operation, ScheduleRun
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.operations import OperationRepository
from app.db.repositories.schedules import ScheduleRepository
from app.errors import AlreadyRunning, LiberuError, NotFound, NothingToBackUp
from app.schemas.backups import BackupIn, CopyIn
from app.schemas.schedules import ScheduleIn, ScheduleOut, ScheduleRunOut
from app.security.tokens import Principal
from app.services.backups import BackupService, StartedBy
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.notices import Notices
from app.services.operations import Idempotency, OperationService
from app.services.timetable import Timetable, cron_of, timetable
from app.services.turns import AUTOMATIC
from app.services.unit import Unit

_SHOWN = 5
_BATCH = 50
_NAMED = 1000
_ALL = frozenset({"*"})


class ScheduleService:
    """`overdue_after`: how long after it was due a run must have become a good one."""

    def __init__(
        self,
        domains: DomainService,
        destinations: DestinationService,
        backups: BackupService,
        operations: OperationService,
        notices: Notices,
        overdue_after: timedelta,
    ) -> None:
        self._operations = operations
        self._notices = notices
        self._domains = domains
        self._destinations = destinations
        self._backups = backups
        self._overdue_after = overdue_after

    async def get(self, unit: Unit, principal: Principal, schedule_id: int) -> BackupSchedule:
        schedule = await ScheduleRepository(unit.session).get(schedule_id)
        if schedule is None:
            raise NotFound(f"There is no schedule {schedule_id}")
        principal.require_owner(schedule.user_id, f"schedule {schedule_id}")
        return schedule

    async def page(self, unit: Unit, principal: Principal, request: PageRequest) -> Page[ScheduleOut]:
        found = await ScheduleRepository(unit.session).page(request, principal.user_id)
        return Page([self.shown(schedule) for schedule in found.items], found.total, request)

    async def create(self, unit: Unit, principal: Principal, body: ScheduleIn) -> BackupSchedule:
        """Raises NotFound, InvalidRequest, Forbidden."""
        schedule = BackupSchedule(due_at=now(), starts_at=now())  # its delay is made from its id
        await self._apply(unit, principal, schedule, body)
        unit.session.add(schedule)
        await unit.session.flush()
        self._move_on(schedule, now())
        await unit.session.flush()
        return schedule

    async def update(self, unit: Unit, principal: Principal, schedule_id: int, body: ScheduleIn) -> BackupSchedule:
        schedule = await self.get(unit, principal, schedule_id)
        await self._apply(unit, principal, schedule, body)
        self._move_on(schedule, now())
        await unit.session.flush()
        return schedule

    async def delete(self, unit: Unit, principal: Principal, schedule_id: int) -> None:
        """Its backups stay."""
        principal.require("schedules:manage")
        schedule = await self.get(unit, principal, schedule_id)
        await ScheduleRepository(unit.session).delete(schedule)

    async def _apply(self, unit: Unit, principal: Principal, schedule: BackupSchedule, body: ScheduleIn) -> None:
        principal.require("schedules:manage")
        if body.user_id is not None and not principal.operator and body.user_id != principal.user_id:
            principal.require_operator("user_id")
        owner = body.user_id if principal.operator else principal.user_id
        if body.domain_id is not None:
            domain = await self._domains.get(unit, principal, body.domain_id)
            owner = domain.user_id if owner is None else owner
            Principal(0, owner, _ALL).require_owner(domain.user_id, f"domain {body.domain_id}")
        further = [copy.destination_id for copy in body.copies]
        await self._destinations.choose_all(unit, Principal(0, owner, _ALL), body.destination_id, further)
        at = time.fromisoformat(body.schedule_time)
        expression = body.cron if body.frequency is None else cron_of(body.frequency, at)
        assert expression is not None
        timetable(expression, body.timezone, now())
        schedule.name, schedule.user_id, schedule.domain_id = body.name, owner, body.domain_id
        schedule.type, schedule.destination_id, schedule.is_active = body.type, body.destination_id, body.is_active
        schedule.copies = [copy.model_dump() for copy in body.copies]
        schedule.retention = None if body.retention is None else body.retention.model_dump()
        schedule.frequency, schedule.expression = body.frequency, " ".join(expression.split())
        schedule.schedule_time = at.strftime("%H:%M") if body.frequency is not None else None
        schedule.timezone, schedule.jitter_seconds = body.timezone, body.jitter_seconds
        schedule.proof = body.proof

    @staticmethod
    def _move_on(schedule: BackupSchedule, moment: datetime) -> None:
        schedule.due_at = _table(schedule).after(moment)
        schedule.starts_at = schedule.due_at + _delay(schedule)

    async def run(self, unit: Unit, principal: Principal, schedule_id: int) -> ScheduleRunOut:
        """Now, besides the times it is due."""
        principal.require("schedules:manage")
        schedule = await self.get(unit, principal, schedule_id)
        run = ScheduleRun(schedule_id=schedule.id, due_at=now(), by_hand=True, cursor=0, skipped=[])
        unit.session.add(run)
        schedule.last_run_at = run.due_at
        await unit.session.flush()
        await self.advance(unit, run.id)
        [found] = await self._runs(unit, [run])
        return found

    async def fire(self, unit: Unit, schedule_id: int, moment: datetime) -> None:
        """Start what is due, once, whoever else tries. Times that were missed become one run, the latest."""
        repository = ScheduleRepository(unit.session)
        schedule = await repository.get(schedule_id)
        if schedule is None or not schedule.is_active or schedule.starts_at > moment:
            return
        table, delay = _table(schedule), _delay(schedule)
        missed = table.between(schedule.due_at, moment - delay)
        due_at = table.before(moment - delay + timedelta(microseconds=1)) if missed else schedule.due_at
        following = table.after(max(due_at, moment - delay))
        taken = await repository.take(schedule, following, following + delay, moment)
        if taken and not await repository.ran(schedule.id, due_at):  # a clock that was set back
            unit.session.add(
                ScheduleRun(schedule_id=schedule.id, due_at=due_at, coalesced=missed, cursor=0, skipped=[])
            )

    async def advance(self, unit: Unit, run_id: int) -> bool:
        """Start backups of a run's next domains; False when there are no more."""
        repository = ScheduleRepository(unit.session)
        run = await repository.run(run_id)
        schedule = None if run is None else await repository.get(run.schedule_id)
        if run is None or schedule is None or run.cursor is None:
            return False
        found = await repository.domains(schedule, run.cursor, _BATCH)
        cursor = found[-1] if len(found) == _BATCH else None
        if not await repository.advance(run, cursor):
            return True  # another process has started these
        reasons = [await self._start(unit, schedule, run, domain_id) for domain_id in found]
        skipped = [*run.skipped, *(reason for reason in reasons if reason is not None)]
        await repository.note(run, skipped[:_NAMED])
        return cursor is not None

    async def _start(
        self, unit: Unit, schedule: BackupSchedule, run: ScheduleRun, domain_id: int
    ) -> dict[str, Any] | None:
        """Of one domain; why not, otherwise."""
        principal = Principal(0, schedule.user_id, _ALL)
        copies = [CopyIn(**copy) for copy in schedule.copies]
        body = BackupIn(
            domain_id=domain_id, type=schedule.type, destination_id=schedule.destination_id, copies=copies
        )
        try:
            domain = await self._domains.get(unit, principal, domain_id)
            if await OperationRepository(unit.session).active_backup(domain.uid, schedule.type):
                raise AlreadyRunning(f"A {schedule.type} backup of {domain.domain_name} is still running")
            nobody = Idempotency(None, "schedule", b"")
            by = StartedBy(schedule.id, run.id, schedule.proof)
            await self._backups.create(unit, principal, body, nobody, by)
        except LiberuError as error:
            return {"domain_id": domain_id, "code": error.code, "message": error.message}
        return None

    async def settle(self, unit: Unit, run_id: int, moment: datetime) -> None:
        """Record how a run has ended, tell of it, and apply the retention rules to what it has replaced."""
        repository = ScheduleRepository(unit.session)
        run = await repository.run(run_id)
        schedule = None if run is None else await repository.get(run.schedule_id)
        if run is None or schedule is None:
            return
        counts = (await repository.outcomes([run_id])).get(run_id, {})
        outcome = _outcome(counts, run.skipped)
        if not await repository.settle(run_id, outcome, moment):
            return  # another process has
        if outcome == "completed" and (schedule.last_good_at is None or schedule.last_good_at < run.due_at):
            schedule.last_good_at = run.due_at
        await self._notices.schedule(unit.session, schedule, outcome, counts, run.skipped)
        for destination_id in sorted(await repository.destinations(run_id)):
            await self._operations.record(
                unit,
                Operation(
                    type="cleanup",
                    user_id=schedule.user_id,
                    domain_uid=f"retention-{schedule.id}-{destination_id}",
                    destination_id=destination_id,
                    destinations=[destination_id],
                    priority=AUTOMATIC,
                    request={"dry_run": False, "schedule_run_id": run_id},
                ),
            )

    async def look_at(self, unit: Unit, schedule: BackupSchedule, moment: datetime) -> None:
        """Tell once when it is overdue; put right what a clock that was far ahead has done to it."""
        repository = ScheduleRepository(unit.session)
        expected = self._missing(schedule, moment)
        if expected is None:
            await repository.mark_overdue(schedule.id, None)
        elif await repository.mark_overdue(schedule.id, moment):
            await self._notices.overdue(unit.session, schedule, expected)
        if schedule.due_at > _table(schedule).after(moment):
            self._move_on(schedule, moment)

    def _missing(self, schedule: BackupSchedule, moment: datetime) -> datetime | None:
        """When the run was due that should have become a good one by now, and has not."""
        expected = _table(schedule).before(moment - self._overdue_after - _delay(schedule))
        known = schedule.is_active and expected >= schedule.created_at
        good = schedule.last_good_at is not None and schedule.last_good_at >= expected
        return expected if known and not good else None

    async def runs(
        self, unit: Unit, principal: Principal, schedule_id: int, request: PageRequest
    ) -> Page[ScheduleRunOut]:
        await self.get(unit, principal, schedule_id)
        found = await ScheduleRepository(unit.session).runs(schedule_id, request)
        return Page(await self._runs(unit, found.items), found.total, request)

    @staticmethod
    async def _runs(unit: Unit, runs: Sequence[ScheduleRun]) -> list[ScheduleRunOut]:
        outcomes = await ScheduleRepository(unit.session).outcomes([run.id for run in runs])
        fields = ("id", "due_at", "started_at", "by_hand", "coalesced", "skipped", "outcome")
        return [
            ScheduleRunOut(**{name: getattr(run, name) for name in fields}, operations=outcomes.get(run.id, {}))
            for run in runs
        ]

    def shown(self, schedule: BackupSchedule) -> ScheduleOut:
        table, following = _table(schedule), list[datetime]()
        while schedule.is_active and len(following) < _SHOWN:
            following.append(table.after(following[-1] if following else now()))
        fields = (
            "id", "name", "domain_id", "user_id", "type", "frequency", "schedule_time", "timezone", "destination_id",
            "copies", "retention", "jitter_seconds", "proof", "is_active", "last_run_at", "last_good_at",
            "created_at",
        )  # fmt: skip
        return ScheduleOut(
            **{name: getattr(schedule, name) for name in fields},
            cron=schedule.expression,
            next_runs=following,
            overdue=self._missing(schedule, now()) is not None,
        )


def _outcome(counts: dict[str, int], skipped: Sequence[Any]) -> str:
    """Domains with nothing to back up are fine; those that have something, and no backup of it, are not."""
    started = sum(counts.values())
    missed = [found for found in skipped if found["code"] != NothingToBackUp.code]
    if counts.get("completed", 0) == started and not missed:
        return "completed"
    if started == 0:
        return "skipped"
    return "partial" if counts.keys() & {"completed", "partial"} else "failed"


def _table(schedule: BackupSchedule) -> Timetable:
    return Timetable(schedule.expression, ZoneInfo(schedule.timezone))


def _delay(schedule: BackupSchedule) -> timedelta:
    """The same for each run: spread evenly over the schedules, and not to be guessed away."""
    spread = zlib.crc32(f"schedule {schedule.id}".encode()) % (schedule.jitter_seconds + 1)
    return timedelta(seconds=spread)
