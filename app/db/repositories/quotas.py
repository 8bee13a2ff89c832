"""Queries on tenants' quotas and what they use."""

from __future__ import annotations

from sqlalchemy import func, select, text, update

from app.db.models import Backup, BackupCopy, Operation, TenantQuota
from app.db.repositories.base import Page, PageRequest, Repository
from app.db.repositories.operations import ACTIVE

_LOCK = 0x1BAC


class QuotaRepository(Repository):
    async def get(self, user_id: int) -> TenantQuota | None:
        return await self._session.get(TenantQuota, user_id)

    async def page(self, request: PageRequest) -> Page[TenantQuota]:
        return await self._page(select(TenantQuota), request, {"id": TenantQuota.user_id})

    async def lock(self, user_id: int) -> None:
        """Whoever wants to use something of a tenant's waits until this transaction has ended."""
        if self._session.get_bind().dialect.name == "postgresql":
            query = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:user))")
            await self._session.execute(query, {"lock": _LOCK, "user": str(user_id)})
        else:  # the first write takes SQLite's only lock, of a row or not
            await self._session.execute(
                update(TenantQuota).where(TenantQuota.user_id == user_id).values(user_id=user_id)
            )

    async def stored_bytes(self, user_id: int) -> int:
        """At all destinations, and what backups that have begun or wait are expected to add."""
        copies = (
            select(func.count())
            .where(BackupCopy.backup_id == Backup.id, BackupCopy.state != "failed")
            .correlate(Backup)
            .scalar_subquery()
        )
        stored = select(func.sum(Backup.file_size * copies)).where(Backup.user_id == user_id)
        coming = select(func.sum(Operation.expected_bytes)).where(
            Operation.user_id == user_id, Operation.status.in_(ACTIVE)
        )
        return int(await self._session.scalar(stored) or 0) + int(await self._session.scalar(coming) or 0)

    async def on_demand(self, user_id: int) -> int:
        """Backups that somebody asked for, and that are or may become good."""
        query = select(func.count()).where(
            Backup.user_id == user_id,
            Backup.is_automated.is_(False),
            Backup.status.in_(("completed", "partial", *ACTIVE)),
        )
        return await self._session.scalar(query) or 0

    async def active(self, user_id: int) -> int:
        query = select(func.count()).where(
            Operation.user_id == user_id, Operation.status.in_(ACTIVE), Operation.queue.is_not(None)
        )
        return await self._session.scalar(query) or 0
