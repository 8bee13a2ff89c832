"""When a schedule is due. Pure: no clock is read here.

Source: crontab(5) as Debian's cron runs it, daylight saving included (package cronsim): a time that a day skips
runs at the next one there is, a time that a day has twice runs once; wildcards follow the real hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from app.errors import InvalidRequest

_MOST = 10_000
_MARGIN = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class Timetable:
    """`expression`: five fields of cron, in the zone's local time."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """The first time due after a moment, in UTC."""
        return next(due for due in self._times(moment) if due > moment)

    def before(self, moment: datetime) -> datetime:
        """The last time due before a moment, in UTC."""
        return next(due for due in self._times(moment, reverse=True) if due < moment)

    def _times(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        """From well before a moment on, or well after it back: an hour that a day has twice is local time twice."""
        begin = moment + _MARGIN if reverse else moment - _MARGIN
        for due in CronSim(self.expression, begin.astimezone(self.zone), reverse=reverse):
            yield due.astimezone(UTC)

    def between(self, start: datetime, end: datetime) -> int:
        """How many times are due after `start` and not after `end`; what is beyond 10,000 is not counted."""
        count = 0
        for due in self._times(start):
            if due > end or count == _MOST:
                break
            count += due > start
        return count


def cron_of(frequency: str, at: time) -> str:
    """As the panel means them: weekly on Sunday, monthly on the first."""
    days = {"daily": "* * *", "weekly": "* * 0", "monthly": "1 * *"}[frequency]
    return f"{at.minute} {at.hour} {days}"


def timetable(expression: str, zone: str, moment: datetime) -> Timetable:
    """Raises InvalidRequest for what is no expression, is never due after `moment`, or no zone."""
    try:
        made = Timetable(expression, ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(f"{zone!r} is no time zone: use a name as Europe/Berlin", field="timezone") from error
    if len(expression.split()) != 5:
        raise InvalidRequest("A cron expression has five fields: minute, hour, day, month, weekday", field="cron")
    try:
        made.after(moment)
        made.before(moment)
    except (CronSimError, StopIteration) as error:
        raise InvalidRequest(
            f"{expression!r} is no cron expression that is ever due: {error}", field="cron"
        ) from error
    return made
