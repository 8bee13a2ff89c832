"""Queries on executor leases; the database's clock decides, since those of machines differ."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update

from app.db.models import ExecutorLease, Installation
from app.db.repositories.base import Repository


class ExecutorRepository(Repository):
    """PostgreSQL only: with SQLite there is one process, which needs no lease."""

    async def begin(self, executor_id: str, seconds: float, **slots: Any) -> None:
        """`slots`: what it takes."""
        self._session.add(ExecutorLease(executor_id=executor_id, expires_at=self._in(seconds), **slots))
        await self._session.flush()

    async def renew(self, executor_id: str, seconds: float) -> bool:
        """False when the lease has run out: others may have taken over what the process runs."""
        query = (
            update(ExecutorLease)
            .where(ExecutorLease.executor_id == executor_id, ExecutorLease.expires_at > func.now())
            .values(expires_at=self._in(seconds))
            .returning(ExecutorLease.executor_id)
        )
        return await self._session.scalar(query) is not None

    async def end(self, executor_id: str) -> None:
        """Let others take over at once."""
        query = update(ExecutorLease).where(ExecutorLease.executor_id == executor_id).values(expires_at=self._in(-1))
        await self._session.execute(query)

    async def live(self) -> set[str]:
        query = select(ExecutorLease.executor_id).where(ExecutorLease.expires_at > func.now())
        return set((await self._session.scalars(query)).all())

    async def forget_expired(self) -> None:
        """What ran out an hour ago tells nobody anything."""
        await self._session.execute(delete(ExecutorLease).where(ExecutorLease.expires_at < self._in(-3600)))

    @staticmethod
    def _in(seconds: float) -> ColumnElement[datetime]:
        return func.now() + timedelta(seconds=seconds)


class InstallationRepository(Repository):
    async def known_or(self, installation_id: str) -> str:
        """The installation that this database belongs to; from now on the given one, when it belongs to none."""
        known: str | None = await self._session.scalar(select(Installation.installation_id))
        if known is not None:
            return known
        self._session.add(Installation(installation_id=installation_id))
        return installation_id
