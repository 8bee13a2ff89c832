"""Which backups of one domain at one destination are kept, and why: a pure function.

A backup is *good* when it is `completed` or `partial`: something of it can be restored. What is being made
is left alone; what failed is no backup, its row goes when it is old. A deletion that was begun is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

GOOD = ("completed", "partial")
ENDED_BADLY = ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """`days`: everything younger is kept. `last`: the newest so many of each type. `daily` … `yearly`: the newest of
    each of the last so many days, ISO weeks, months, years (UTC) that have one, of each type; a completed one goes
    before a partial one."""

    days: int = 30
    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """`components`: kind and name of each component that can be restored."""

    id: int
    type: str
    status: str
    created_at: datetime
    locked: bool = False
    components: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """`reasons`: for each id in `keep`, why it is kept; for each in `remove`, why it goes."""

    keep: list[int] = field(default_factory=list)
    remove: list[int] = field(default_factory=list)
    reasons: dict[int, list[str]] = field(default_factory=dict)


_PERIODS: dict[str, Callable[[datetime], object]] = {
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}


def plan_retention(backups: Iterable[Candidate], policy: RetentionPolicy, now: datetime) -> RetentionPlan:
    """Decide for all of one domain's backups at one destination, given in any order.

    The newest good copy of each component is never removed, however old: a domain whose backups are always partial
    keeps the last good part of each kind. A time in the future counts as young.
    """
    newest_first = sorted(backups, key=lambda backup: (backup.created_at, backup.id), reverse=True)
    good = [backup for backup in newest_first if backup.status in GOOD]
    why: dict[int, list[str]] = {backup.id: [] for backup in newest_first}
    for backup in newest_first:
        if backup.locked:
            why[backup.id].append("locked")
        if backup.status == "deleting":
            continue
        if backup.status not in (*GOOD, *ENDED_BADLY):
            why[backup.id].append(f"it is {backup.status}")
        if backup.created_at > now - timedelta(days=policy.days):
            why[backup.id].append(f"younger than {policy.days} days")
    for type in {backup.type for backup in good}:
        _by_count([backup for backup in good if backup.type == type], policy, why)
    _last_copies(good, why)
    plan = RetentionPlan()
    for backup in newest_first:
        reasons = why[backup.id]
        (plan.keep if reasons else plan.remove).append(backup.id)
        begun = backup.status == "deleting"
        gone = "its deletion was begun" if begun else f"older than {policy.days} days, and no rule keeps it"
        plan.reasons[backup.id] = reasons or [gone]
    return plan


def _by_count(backups: Sequence[Candidate], policy: RetentionPolicy, why: dict[int, list[str]]) -> None:
    """`backups` newest first. A period is stood for by its newest completed backup, else its newest partial one."""
    for backup in backups[: policy.last]:
        why[backup.id].append(f"one of the last {policy.last}")
    for name, period in _PERIODS.items():
        wanted = getattr(policy, name)
        chosen: dict[object, Candidate] = {}
        for backup in backups:
            present = chosen.setdefault(period(backup.created_at), backup)
            if present.status != "completed" and backup.status == "completed":
                chosen[period(backup.created_at)] = backup
        for backup in list(chosen.values())[:wanted]:
            why[backup.id].append(f"one of {wanted} {name}")


def _last_copies(good: Sequence[Candidate], why: dict[int, list[str]]) -> None:
    seen: set[tuple[str, str]] = set()
    for backup in good:
        for kind, name in sorted(backup.components - seen):
            label = kind if kind == name else f"{kind} {name}"
            why[backup.id].append(f"the newest copy of {label}")
        seen |= backup.components
