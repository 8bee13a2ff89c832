"""Queries on schedules and their runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update

from app.db.models import BackupSchedule, Domain, Operation, ScheduleRun
from app.db.repositories.base import Page, PageRequest, Repository
from app.db.repositories.operations import ACTIVE


class ScheduleRepository(Repository):
    async def get(self, schedule_id: int) -> BackupSchedule | None:
        return await self._session.get(BackupSchedule, schedule_id, populate_existing=True)

    async def page(self, request: PageRequest, user_id: int | None) -> Page[BackupSchedule]:
        query = select(BackupSchedule)
        if user_id is not None:
            query = query.where(BackupSchedule.user_id == user_id)
        return await self._page(query, request, {"id": BackupSchedule.id, "starts_at": BackupSchedule.starts_at})

    async def due(self, moment: datetime, limit: int) -> list[int]:
        query = (
            select(BackupSchedule.id)
            .where(BackupSchedule.is_active, BackupSchedule.starts_at <= moment)
            .order_by(BackupSchedule.starts_at)
            .limit(limit)
        )
        return list((await self._session.scalars(query)).all())

    async def take(self, schedule: BackupSchedule, due_at: datetime, starts_at: datetime, moment: datetime) -> bool:
        """Move a schedule on to its next time; False when another process has."""
        query = (
            update(BackupSchedule)
            .where(
                BackupSchedule.id == schedule.id, BackupSchedule.due_at == schedule.due_at, BackupSchedule.is_active
            )
            .values(due_at=due_at, starts_at=starts_at, last_run_at=moment)
            .returning(BackupSchedule.id)
        )
        return await self._session.scalar(query) is not None

    async def unfinished(self, limit: int) -> list[int]:
        query = select(ScheduleRun.id).where(ScheduleRun.cursor.is_not(None)).order_by(ScheduleRun.id).limit(limit)
        return list((await self._session.scalars(query)).all())

    async def run(self, run_id: int) -> ScheduleRun | None:
        return await self._session.get(ScheduleRun, run_id, populate_existing=True)

    async def advance(self, run: ScheduleRun, cursor: int | None) -> bool:
        """Before backups of the next domains are started; false when another process does that: it is waited for."""
        query = (
            update(ScheduleRun)
            .where(ScheduleRun.id == run.id, ScheduleRun.cursor == run.cursor)
            .values(cursor=cursor)
            .returning(ScheduleRun.id)
        )
        return await self._session.scalar(query) is not None

    async def note(self, run: ScheduleRun, skipped: list[Any]) -> None:
        await self._session.execute(update(ScheduleRun).where(ScheduleRun.id == run.id).values(skipped=skipped))

    async def domains(self, schedule: BackupSchedule, after: int, limit: int) -> list[int]:
        query = select(Domain.id).where(Domain.id > after).order_by(Domain.id).limit(limit)
        if schedule.domain_id is not None:
            query = query.where(Domain.id == schedule.domain_id)
        if schedule.user_id is not None:
            query = query.where(Domain.user_id == schedule.user_id)
        return list((await self._session.scalars(query)).all())

    async def runs(self, schedule_id: int, request: PageRequest) -> Page[ScheduleRun]:
        query = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id)
        return await self._page(query, request, {"due_at": ScheduleRun.due_at, "id": ScheduleRun.id})

    async def outcomes(self, run_ids: list[int]) -> dict[int, dict[str, int]]:
        """Per run, how many of its backups stand how."""
        query = (
            select(Operation.schedule_run_id, Operation.status, func.count())
            .where(Operation.schedule_run_id.in_(run_ids))
            .group_by(Operation.schedule_run_id, Operation.status)
        )
        found: dict[int, dict[str, int]] = {}
        for run_id, status, count in (await self._session.execute(query)).all():
            found.setdefault(run_id or 0, {})[status] = count
        return found

    async def unsettled(self, limit: int) -> list[int]:
        """Runs that have started all of their backups, all of which have ended."""
        running = select(Operation.id).where(
            Operation.schedule_run_id == ScheduleRun.id, Operation.status.in_(ACTIVE)
        )
        query = (
            select(ScheduleRun.id)
            .where(ScheduleRun.cursor.is_(None), ScheduleRun.outcome.is_(None), ~running.exists())
            .order_by(ScheduleRun.id)
            .limit(limit)
        )
        return list((await self._session.scalars(query)).all())

    async def settle(self, run_id: int, outcome: str, moment: datetime) -> bool:
        """False when another process has."""
        query = (
            update(ScheduleRun)
            .where(ScheduleRun.id == run_id, ScheduleRun.outcome.is_(None))
            .values(outcome=outcome, settled_at=moment)
            .returning(ScheduleRun.id)
        )
        return await self._session.scalar(query) is not None

    async def destinations(self, run_id: int) -> set[int]:
        """Where completed backups of a run are."""
        query = select(Operation.destinations).where(
            Operation.schedule_run_id == run_id, Operation.status == "completed"
        )
        return {number for numbers in (await self._session.scalars(query)).all() for number in numbers}

    async def retentions(self) -> dict[int, dict[str, Any]]:
        """Of the schedules that have rules of their own for their backups."""
        query = select(BackupSchedule.id, BackupSchedule.retention).where(BackupSchedule.retention.is_not(None))
        return {number: rules for number, rules in (await self._session.execute(query)).all() if rules is not None}

    async def ran(self, schedule_id: int, due_at: datetime) -> bool:
        query = select(ScheduleRun.id).where(ScheduleRun.schedule_id == schedule_id, ScheduleRun.due_at == due_at)
        return await self._session.scalar(query) is not None

    async def active(self, after: int, limit: int) -> list[BackupSchedule]:
        query = select(BackupSchedule).where(BackupSchedule.is_active, BackupSchedule.id > after)
        return list((await self._session.scalars(query.order_by(BackupSchedule.id).limit(limit))).all())

    async def mark_overdue(self, schedule_id: int, since: datetime | None) -> bool:
        """False when another process has, or nothing changes."""
        known = BackupSchedule.overdue_since
        query = (
            update(BackupSchedule)
            .where(BackupSchedule.id == schedule_id, known.is_not(None) if since is None else known.is_(None))
            .values(overdue_since=since)
            .returning(BackupSchedule.id)
        )
        return await self._session.scalar(query) is not None

    async def forget_runs(self, before: datetime) -> int:
        """Runs that were settled before then; the last ones of each schedule are among the younger."""
        query = delete(ScheduleRun).where(ScheduleRun.settled_at < before)
        return int(getattr(await self._session.execute(query), "rowcount", 0))
