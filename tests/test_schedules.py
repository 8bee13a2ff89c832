"""When schedules are due: 90 days, 300 schedules, five zones, both changes of daylight saving, outages, restarts."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from app.db.models import BackupSchedule, NotificationChannel, NotificationDelivery, ScheduleRun
from app.db.repositories.base import PageRequest
from app.db.repositories.schedules import ScheduleRepository
from app.db.session import Database
from app.errors import InvalidRequest
from app.jobs import scheduler as ticking
from app.jobs.scheduler import Scheduler
from app.services import schedules as scheduling
from app.services.notices import Notices
from app.services.schedules import ScheduleService
from app.services.timetable import cron_of, timetable
from tests import sampling

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def test_the_panels_frequencies() -> None:
    assert cron_of("daily", time(3, 30)) == "30 3 * * *"
    assert cron_of("weekly", time(1)) == "0 1 * * 0"
    assert cron_of("monthly", time(0)) == "0 0 1 * *"


@pytest.mark.parametrize(
    ("day", "times"),
    [
        (
            datetime(2027, 3, 27, tzinfo=BERLIN),
            ["2027-03-27 02:30", "2027-03-28 03:00", "2027-03-29 02:30"],
        ),  # no 02:30 that day
        (
            datetime(2027, 10, 30, tzinfo=BERLIN),
            ["2027-10-30 02:30", "2027-10-31 02:30", "2027-11-01 02:30"],
        ),  # 02:30 twice
    ],
)
def test_daylight_saving(day: datetime, times: list[str]) -> None:
    table, moment, found = timetable("30 2 * * *", "Europe/Berlin", NEW_YEAR), day, []
    for _ in times:
        moment = table.after(moment)
        found.append(moment.astimezone(BERLIN).strftime("%Y-%m-%d %H:%M"))
    assert found == times


def test_no_time_is_due_twice_within_an_hour_that_a_day_has_twice() -> None:
    table = timetable("25 1 * * *", "America/New_York", NEW_YEAR)
    moment, end = datetime(2027, 11, 7, 4, 0, tzinfo=UTC), datetime(2027, 11, 7, 8, 0, tzinfo=UTC)
    due = datetime(2027, 11, 7, 5, 25, tzinfo=UTC)
    while moment < end:
        assert table.after(moment) == (due if moment < due else due + timedelta(hours=25))
        assert table.before(moment) == (due if moment > due else due - timedelta(hours=24))
        assert table.between(moment, end) == (moment < due)
        moment += timedelta(minutes=5)


@pytest.mark.parametrize(
    ("expression", "zone", "field"),
    [
        ("* * * *", "UTC", "cron"), ("61 * * * *", "UTC", "cron"), ("0 0 30 2 *", "UTC", "cron"),
        ("* * * * * *", "UTC", "cron"), ("x", "UTC", "cron"), ("0 0 * * *", "Mars/Base", "timezone"),
        ("0 0 * * *", "../../etc/passwd", "timezone"), ("0 0 * * *", "", "timezone"), ("@daily", "UTC", "cron"),
    ],
)  # fmt: skip
def test_what_is_no_time(expression: str, zone: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        timetable(expression, zone, NEW_YEAR)
    assert raised.value.field == field


@given(st.integers(0, 4 * 366 * 86_400), st.sampled_from(ZONES), st.integers(0, 23))
def test_before_and_after_agree(seconds: int, zone: str, hour: int) -> None:
    at = NEW_YEAR + timedelta(seconds=seconds)
    table = timetable(f"15 {hour} * * *", zone, at)
    following, last = table.after(at), table.before(at)
    assert last < at < following or table.after(at - timedelta(seconds=1)) == at
    assert following - last <= timedelta(hours=50)
    assert table.between(last, following) == 1 + (table.after(last) != following)


class Recorded(ScheduleService):
    """Starts no backups: runs are what is counted."""

    def __init__(self) -> None:
        super().__init__(None, None, None, None, Notices(), timedelta(hours=6))  # type: ignore[arg-type]


def schedules(rng: random.Random, start: datetime, monkeypatch: pytest.MonkeyPatch) -> list[BackupSchedule]:
    monkeypatch.setattr(scheduling, "now", lambda: start)
    made = []
    for number in range(300):
        at = f"{rng.randrange(60)} {rng.randrange(24)}"
        kinds = [f"{at} * * *", f"{at} * * 0", f"{at} 1 * *", f"{rng.randrange(60)} */12 * * *", "30 2 * * *"]
        [expression] = rng.choices(kinds, weights=[10, 50, 28, 3, 9])
        schedule = BackupSchedule(
            id=number + 1, name=str(number), type="full", expression=expression, timezone=rng.choice(ZONES),
            jitter_seconds=rng.choice([0, 600, 3600]), is_active=True, user_id=None, domain_id=None,
            created_at=start, due_at=start, starts_at=start,
        )  # fmt: skip
        ScheduleService._move_on(schedule, start)
        made.append(schedule)
    return made


@pytest.mark.sweep
@pytest.mark.timeout(600)
async def test_ninety_days(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time due has a run of its own, or is counted by the run that stands for it; no run for anything else. In
    these days Lord Howe goes forward, Berlin and New York go back. A sample is some ten of them."""
    rng = sampling.rng("ninety days")
    days = 90 if sampling.whole() else 10
    start = datetime(2027, 9, 1, 0, 7, tzinfo=UTC) + timedelta(days=rng.randint(0, 90 - days))
    made = schedules(rng, start, monkeypatch)
    monkeypatch.setattr(ticking, "_AT_ONCE", 1000)
    originals = {schedule.id: (schedule.expression, schedule.timezone) for schedule in made}
    async with database.transaction() as session:
        session.add_all(made)
    outages = [(start + timedelta(days=day * days // 90, hours=rng.randrange(24)), timedelta(hours=hours))
               for day, hours in ((9, 1), (27, 30), (41, 5), (62, 80), (75, 2))]  # fmt: skip
    end = start + timedelta(days=days)
    moment, scheduler = start, Scheduler(database, Recorded(), 5)
    while moment < end:
        moment += timedelta(minutes=rng.choice([20, 40, 60, 90]))  # no tick is missed for want of a finer one
        if any(begin <= moment < begin + length for begin, length in outages):
            continue
        if rng.random() < 0.05:
            scheduler = Scheduler(database, Recorded(), 5)  # a restart
        await scheduler.tick(moment)
        if rng.random() < 0.2:
            await Scheduler(database, Recorded(), 5).tick(moment)  # another process, a moment later
    async with database.transaction() as session:
        page = await ScheduleRepository(session).runs(1, PageRequest(per_page=1))
        assert page.total > 0
        runs = list((await session.scalars(select(ScheduleRun))).all())
        standing = {
            schedule.id: schedule.due_at for schedule in (await session.scalars(select(BackupSchedule))).all()
        }
    assert all(run.cursor is None for run in runs)
    by_schedule: dict[int, list[ScheduleRun]] = {}
    for run in runs:
        by_schedule.setdefault(run.schedule_id, []).append(run)
    stats: Counter[str] = Counter()
    for number, (expression, zone) in originals.items():
        table = timetable(expression, zone, start)
        due, expected = table.after(start), set[datetime]()
        while due < standing[number]:
            expected.add(due)
            due = table.after(due)
        assert due == standing[number]
        mine = by_schedule.get(number, [])
        times = {run.due_at for run in mine}
        assert len(times) == len(mine), "twice"
        assert times <= expected, "never due"
        assert len(expected) == len(mine) + sum(run.coalesced for run in mine), (expression, zone)
        stats["runs"] += len(mine)
        stats["coalesced"] += sum(run.coalesced for run in mine)
    assert stats["runs"] > 5_000 * days // 90
    assert stats["coalesced"] > 100 * days // 90


async def _one(database: Database, monkeypatch: pytest.MonkeyPatch, start: datetime) -> None:
    monkeypatch.setattr(scheduling, "now", lambda: start)
    schedule = BackupSchedule(
        id=1, name="daily", type="full", expression="0 2 * * *", timezone="UTC", jitter_seconds=0, is_active=True,
        user_id=7, domain_id=None, created_at=start, due_at=start, starts_at=start,
    )  # fmt: skip
    ScheduleService._move_on(schedule, start)
    async with database.transaction() as session:
        session.add(schedule)


async def _runs(database: Database) -> list[tuple[datetime, int]]:
    async with database.transaction() as session:
        found = (await session.scalars(select(ScheduleRun).order_by(ScheduleRun.due_at))).all()
    return [(run.due_at, run.coalesced) for run in found]


async def test_one_that_cannot_be_started_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its time zone is gone from the machine's."""
    await _one(database, monkeypatch, NEW_YEAR)
    async with database.transaction() as session:
        broken = BackupSchedule(
            id=2, name="gone", type="full", expression="0 1 * * *", timezone="Mars/Base", jitter_seconds=0,
            is_active=True, user_id=7, domain_id=None, created_at=NEW_YEAR, due_at=NEW_YEAR, starts_at=NEW_YEAR,
        )  # fmt: skip
        session.add(broken)
    scheduler, two = Scheduler(database, Recorded(), 5), NEW_YEAR + timedelta(hours=2)
    await scheduler.tick(two)
    await scheduler.look(two)
    assert await _runs(database) == [(two, 0)]


async def test_a_clock_that_jumps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far ahead and back again, as a machine without its time server: one run too early, none twice, none missing."""
    await _one(database, monkeypatch, NEW_YEAR)
    scheduler = Scheduler(database, Recorded(), 5)
    two = NEW_YEAR + timedelta(hours=2)

    async def at(moment: datetime) -> None:
        await scheduler.tick(moment)
        await scheduler.look(moment)

    await at(two)
    assert await _runs(database) == [(two, 0)]
    await at(two + timedelta(days=400))
    assert await _runs(database) == [(two, 0), (two + timedelta(days=400), 399)]
    await at(two + timedelta(minutes=5))
    await at(two - timedelta(hours=1))
    assert len(await _runs(database)) == 2, "what has run does not run again"
    for day in (1, 2, 3):
        await at(two + timedelta(days=day, seconds=3))
    assert [due for due, _ in await _runs(database)] == [
        two, *(two + timedelta(days=day) for day in (1, 2, 3)), two + timedelta(days=400)
    ]  # fmt: skip
    await at(two + timedelta(days=400, seconds=3))
    assert len(await _runs(database)) == 5, "that time has had its run"
    await at(two + timedelta(days=401, seconds=3))
    assert len(await _runs(database)) == 6


async def test_overdue_is_told_once_and_again_when_it_was_good_in_between(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _one(database, monkeypatch, NEW_YEAR)
    async with database.transaction() as session:
        session.add(
            NotificationChannel(
                name="ops", type="webhook", shown="", credentials="x", events=["schedule.overdue"], user_id=None
            )
        )
    scheduler = Scheduler(database, Recorded(), 5)

    async def told() -> int:
        async with database.transaction() as session:
            return len((await session.scalars(select(NotificationDelivery))).all())

    day = timedelta(days=1)
    for hours, expected in ((5, 0), (8, 0), (9, 1), (10, 1), (33, 1)):
        await scheduler.look(NEW_YEAR + timedelta(hours=hours))
        assert await told() == expected, hours
    async with database.transaction() as session:
        schedule = await session.get(BackupSchedule, 1)
        assert schedule is not None
        assert schedule.overdue_since == NEW_YEAR + timedelta(hours=9)
        schedule.last_good_at = NEW_YEAR + day + timedelta(hours=2)
    await scheduler.look(NEW_YEAR + day + timedelta(hours=10))
    await scheduler.look(NEW_YEAR + 2 * day + timedelta(hours=7))
    assert await told() == 1
    await scheduler.look(NEW_YEAR + 2 * day + timedelta(hours=9))
    assert await told() == 2
