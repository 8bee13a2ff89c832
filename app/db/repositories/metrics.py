"""Counts for monitoring."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Executable, func, select

from app.db.models import BackupComponent, BackupSchedule, Destination, ExecutorLease, NotificationDelivery, Operation
from app.db.repositories.base import Repository
from app.db.repositories.operations import ACTIVE

Values = list[tuple[tuple[object, ...], float]]


class MetricsRepository(Repository):
    async def _values(self, query: Executable) -> Values:
        """The last column is the value, those before it are labels."""
        return [(tuple(row[:-1]), float(row[-1])) for row in (await self._session.execute(query)).all()]

    async def active(self) -> Values:
        query = select(Operation.type, Operation.status, func.count()).where(Operation.status.in_(ACTIVE))
        return await self._values(query.group_by(Operation.type, Operation.status))

    async def ended(self, moment: datetime) -> Values:
        query = select(Operation.type, Operation.status, func.count()).where(
            Operation.finished_at > moment - timedelta(days=1)
        )
        return await self._values(query.group_by(Operation.type, Operation.status))

    async def oldest_waiting(self) -> datetime | None:
        query = select(func.min(Operation.created_at)).where(Operation.status == "pending")
        return await self._session.scalar(query)

    async def overdue(self) -> Values:
        query = select(BackupSchedule.id, BackupSchedule.overdue_since).where(BackupSchedule.is_active)
        return [((number,), float(since is not None)) for number, since in (await self._session.execute(query)).all()]

    async def last_good(self) -> Values:
        query = select(BackupSchedule.id, BackupSchedule.last_good_at).where(BackupSchedule.last_good_at.is_not(None))
        found = (await self._session.execute(query)).all()
        return [((number,), at.timestamp()) for number, at in found if at is not None]

    async def notifications(self) -> Values:
        query = select(NotificationDelivery.status, func.count()).where(
            NotificationDelivery.status.in_(("pending", "failed"))
        )
        return await self._values(query.group_by(NotificationDelivery.status))

    async def proved(self, moment: datetime) -> Values:
        query = select(func.coalesce(BackupComponent.proved, ""), func.count()).where(
            BackupComponent.finished_at > moment - timedelta(days=1),
            BackupComponent.kind.in_(("mysql", "mariadb", "postgresql")),
        )
        return await self._values(query.group_by(BackupComponent.proved))

    async def free_bytes(self) -> Values:
        query = select(Destination.id, Destination.free_bytes).where(Destination.free_bytes.is_not(None))
        return await self._values(query)

    async def workers(self) -> Values:
        query = select(func.coalesce(ExecutorLease.server, ""), func.count()).where(
            ExecutorLease.expires_at > func.now(), ExecutorLease.operations > 0
        )
        return await self._values(query.group_by(ExecutorLease.server))
