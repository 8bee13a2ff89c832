"""The tick that starts what is due. Every process has one: the database decides who starts which run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from app.db.base import now
from app.db.repositories.schedules import ScheduleRepository
from app.db.session import Database, is_outage
from app.jobs.background import BackgroundTask
from app.services.schedules import ScheduleService
from app.services.unit import Unit, transaction

log = logging.getLogger(__name__)
_AT_ONCE = 100


class Scheduler(BackgroundTask):
    def __init__(
        self, database: Database, schedules: ScheduleService, seconds: float, overdue_seconds: float = 300
    ) -> None:
        self._overdue_seconds = overdue_seconds
        self._database = database
        self._schedules = schedules
        self._seconds = seconds

    async def _run(self) -> None:
        looked = -self._overdue_seconds
        while True:
            try:
                await self.tick(now())
                if time.monotonic() - looked >= self._overdue_seconds:
                    await self.look(now())
                    looked = time.monotonic()
            except Exception:  # noqa: BLE001,RUF100  the next one may succeed; a schedule is due until it was started
                log.exception("Schedules could not be started")
            await asyncio.sleep(self._seconds)

    async def look(self, moment: datetime) -> None:
        """Whether each schedule has a good backup as young as it should be."""
        after = 0
        while True:
            async with transaction(self._database) as unit:
                found = await ScheduleRepository(unit.session).active(after, _AT_ONCE)
            if not found:
                return
            await self._all([schedule.id for schedule in found], partial(self._look, moment))
            after = found[-1].id

    async def _look(self, moment: datetime, unit: Unit, schedule_id: int) -> None:
        schedule = await ScheduleRepository(unit.session).get(schedule_id)
        if schedule is not None:
            await self._schedules.look_at(unit, schedule, moment)

    async def tick(self, moment: datetime) -> None:
        """Start every run that is due. Runs are begun in one transaction, the backups of each in batches with the
        place where it goes on: a crash in between repeats nothing."""
        while await self._fire(moment):
            pass
        async with transaction(self._database) as unit:
            unfinished = await ScheduleRepository(unit.session).unfinished(_AT_ONCE)
        await self._each("Run", unfinished, self._advance)
        async with transaction(self._database) as unit:
            ended = await ScheduleRepository(unit.session).unsettled(_AT_ONCE)
        await self._each("Run", ended, partial(self._settle, moment))

    async def _all(self, ids: list[int], work: Callable[[Unit, int], Awaitable[None]]) -> int:
        """Schedules in one transaction; one by one, when that fails, as `_each`."""
        try:
            async with transaction(self._database) as unit:
                for number in ids:
                    await work(unit, number)
        except Exception as error:
            if is_outage(error):
                raise
        else:
            return len(ids)

        async def alone(number: int) -> None:
            async with transaction(self._database) as unit:
                await work(unit, number)

        return await self._each("Schedule", ids, alone)

    async def _each(self, what: str, ids: list[int], work: Callable[[int], Awaitable[None]]) -> int:
        """How many went well. One that cannot be done, as in a time zone that is gone, must not hold up the rest."""
        done = 0
        for number in ids:
            try:
                await work(number)
                done += 1
            except Exception as error:
                if is_outage(error):
                    raise
                log.exception("%s %s could not be gone on with", what, number)
        return done

    async def _fire(self, moment: datetime) -> bool:
        """False when nothing is due that can be started."""
        async with transaction(self._database) as unit:
            due = await ScheduleRepository(unit.session).due(moment, _AT_ONCE)
        return bool(await self._all(due, partial(self._begin, moment)))

    async def _begin(self, moment: datetime, unit: Unit, schedule_id: int) -> None:
        await self._schedules.fire(unit, schedule_id, moment)

    async def _advance(self, run_id: int) -> None:
        more = True
        while more:
            async with transaction(self._database) as unit:
                more = await self._schedules.advance(unit, run_id)

    async def _settle(self, moment: datetime, run_id: int) -> None:
        async with transaction(self._database) as unit:
            await self._schedules.settle(unit, run_id, moment)
