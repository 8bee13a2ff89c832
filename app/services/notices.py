"""What people are told, in plain words, and who is: recorded in the transaction of what it tells of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import new_uid, now
from app.db.models import BackupSchedule, Destination, NotificationChannel, NotificationDelivery, Operation
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.repositories.notifications import NotificationRepository
from app.sizes import human_size

_WORK = {
    "backup": "Backup of {domain}",
    "restore": "Restore of {domain}",
    "bulk_restore": "Restore of several backups",
    "import": "Import of a foreign backup",
    "verify": "Verification of a backup of {domain}",
    "cleanup": "Clean-up of {destination}",
    "scan": "Scan of {destination}",
    "sweep": "Sweep of {destination}",
}
_HOW = {
    "started": "has begun",
    "completed": "is complete",
    "partial": "is not complete",
    "failed": "has failed",
    "cancelled": "was cancelled",
}
_SCHEDULE = {
    "completed": "The backups of schedule {name} are complete",
    "partial": "Some backups of schedule {name} are not complete",
    "failed": "The backups of schedule {name} have failed",
    "skipped": "No backup of schedule {name} was started",
    "overdue": "Schedule {name} has no good backup",
}
TEST, SPACE_LOW = "test", "destination.space_low"
EVENTS = (
    *(f"{work}.{how}" for work in _WORK for how in _HOW),
    *(f"schedule.{what}" for what in _SCHEDULE),
    SPACE_LOW,
)


def matches(patterns: Iterable[str], event: str) -> bool:
    return any(fnmatchcase(event, pattern) for pattern in patterns)


class Notices:
    """Nothing is sent here: deliveries are rows, which the courier takes. So an event is told of exactly when what it
    tells of was committed."""

    async def operation(
        self, session: AsyncSession, operation: Operation, status: str, code: str | None, message: str | None
    ) -> None:
        """`status`: started, or how it ended."""
        event = f"{operation.type}.{status}"
        channels = await self._channels(session, event, operation.user_id)
        if not channels:
            return
        names = await self._names(session, operation)
        title = f"{_WORK[operation.type].format(**names)} {_HOW[status]}"
        text = f"{title}. {message}" if message else f"{title}."
        data = {
            "operation_id": operation.id,
            "backup_id": operation.backup_id,
            "domain_id": operation.domain_id,
            "domain_name": names["domain"] if operation.domain_id is not None else None,
            "user_id": operation.user_id,
            "code": code,
            "message": message,
        }
        self._record(session, channels, event, title, f"{text}\n\nOperation {operation.id}.", data)

    @staticmethod
    async def _names(session: AsyncSession, operation: Operation) -> dict[str, str]:
        domain = await DomainRepository(session).name(operation.domain_id or 0)
        place = await DestinationRepository(session).get(operation.destination_id or 0)
        return {
            "domain": domain or "a domain that is gone",
            "destination": place.name if place is not None else "a destination that is gone",
        }

    async def schedule(
        self, session: AsyncSession, schedule: BackupSchedule, what: str, counts: dict[str, int], skipped: list[Any]
    ) -> None:
        """How a run has ended. `counts`: how many backups ended how."""
        event = f"schedule.{what}"
        channels = await self._channels(session, event, schedule.user_id)
        if not channels:
            return
        title = _SCHEDULE[what].format(name=schedule.name)
        parts = [f"{number} {status}" for status, number in sorted(counts.items())]
        if skipped:
            parts.append(f"{len(skipped)} not started, the first because: {skipped[0]['message']}")
        data = {"schedule_id": schedule.id, "user_id": schedule.user_id, "backups": counts, "skipped": len(skipped)}
        self._record(session, channels, event, title, f"{title}: {', '.join(parts) or 'there are none'}.", data)

    async def overdue(self, session: AsyncSession, schedule: BackupSchedule, expected: datetime) -> None:
        event = "schedule.overdue"
        channels = await self._channels(session, event, schedule.user_id)
        title = _SCHEDULE["overdue"].format(name=schedule.name)
        good = schedule.last_good_at
        last = f"the last good one was due at {_time(good)}" if good is not None else "there never was one"
        text = (
            f"{title} of the run that was due at {_time(expected)}; {last}.\n\n"
            f"Look at the runs of schedule {schedule.id}: they name what went wrong."
        )
        data = {
            "schedule_id": schedule.id,
            "user_id": schedule.user_id,
            "expected_at": expected.isoformat(),
            "last_good_at": good.isoformat() if good is not None else None,
        }
        self._record(session, channels, event, title, text, data)

    async def space_low(self, session: AsyncSession, destination: Destination, free: int) -> None:
        channels = await self._channels(session, SPACE_LOW, destination.user_id)
        title = f"Little space is left at {destination.name}"
        text = f"{title}: {human_size(free)}. Backups fail when it is used up: delete some, or add space."
        data = {"destination_id": destination.id, "user_id": destination.user_id, "free_bytes": free}
        self._record(session, channels, SPACE_LOW, title, text, data)

    def test(self, session: AsyncSession, channel: NotificationChannel) -> NotificationDelivery:
        title = "This is a test"
        text = f"{title} of the channel {channel.name}: notifications of Liberu Backup arrive here."
        [made] = self._record(session, [channel], TEST, title, text, {"channel_id": channel.id})
        return made

    @staticmethod
    async def _channels(session: AsyncSession, event: str, user_id: int | None) -> list[NotificationChannel]:
        found = await NotificationRepository(session).listening(user_id)
        return [channel for channel in found if matches(channel.events, event)]

    @staticmethod
    def _record(
        session: AsyncSession,
        channels: list[NotificationChannel],
        event: str,
        title: str,
        text: str,
        data: dict[str, Any],
    ) -> list[NotificationDelivery]:
        payload = {"timestamp": now().isoformat(), "data": data}
        made = [
            NotificationDelivery(
                uid=new_uid(), channel_id=channel.id, event=event, title=title, text=text, payload=payload
            )
            for channel in channels
        ]
        session.add_all(made)
        return made


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
