"""For how long what is stored at a destination is locked there."""

from __future__ import annotations

from datetime import datetime, timedelta

from app.db.models import Destination

_LEAST, _MOST = timedelta(days=10), timedelta(days=20)


def lock_days(destination: Destination, kept_days: int | None = None) -> int | None:
    """For a new object; None: it is not locked. `kept_days`: of the rules that govern it, when they are not the
    destination's."""
    days = destination.configuration.get("object_lock_days")
    if days == "retention":
        return destination.retention_days if kept_days is None else kept_days
    return None if days is None else int(days)


def lock_extension(destination: Destination, moment: datetime) -> tuple[datetime, datetime] | None:
    """What is kept and whose lock ends before the first time is locked until the second; None: nothing is.

    Sweeps run once a week: ten days hold until the next one and some more. No longer than 20, or what retention lets
    go would stay locked for as long.
    """
    days = lock_days(destination)
    if days is None:
        return None
    whole = timedelta(days=days)
    return moment + min(_LEAST, whole / 2), moment + min(_MOST, whole)


def ending(until: datetime) -> str:
    """When a lock ends, in words."""
    return "for as long as a legal hold is on it" if until.year == 9999 else f"until {until:%Y-%m-%d %H:%M} UTC"
