"""Queries on notification channels and deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, or_, select, update

from app.db.models import NotificationChannel, NotificationDelivery
from app.db.repositories.base import Page, PageRequest, Repository


class NotificationRepository(Repository):
    async def channel(self, channel_id: int) -> NotificationChannel | None:
        return await self._session.get(NotificationChannel, channel_id)

    async def channels(self, request: PageRequest, user_id: int | None) -> Page[NotificationChannel]:
        query = select(NotificationChannel)
        if user_id is not None:
            query = query.where(NotificationChannel.user_id == user_id)
        return await self._page(query, request, {"id": NotificationChannel.id, "name": NotificationChannel.name})

    async def listening(self, user_id: int | None) -> list[NotificationChannel]:
        """Channels that may be told of a user's things: theirs, and the operators'."""
        operators = NotificationChannel.user_id.is_(None)
        theirs = operators if user_id is None else or_(operators, NotificationChannel.user_id == user_id)
        query = select(NotificationChannel).where(NotificationChannel.is_active, theirs)
        return list((await self._session.scalars(query.order_by(NotificationChannel.id))).all())

    async def delivery(self, delivery_id: int) -> NotificationDelivery | None:
        return await self._session.get(NotificationDelivery, delivery_id, populate_existing=True)

    async def deliveries(
        self, channel_id: int, request: PageRequest, status: str | None
    ) -> Page[NotificationDelivery]:
        query = select(NotificationDelivery).where(NotificationDelivery.channel_id == channel_id)
        if status is not None:
            query = query.where(NotificationDelivery.status == status)
        columns = {"id": NotificationDelivery.id, "created_at": NotificationDelivery.created_at}
        return await self._page(query, request, columns)

    async def claim(self, moment: datetime, until: datetime, limit: int) -> list[NotificationDelivery]:
        """Take what is due: nobody else tries it before `until`. A process that dies leaves it to others then."""
        due = (
            select(NotificationDelivery.id)
            .where(NotificationDelivery.status == "pending", NotificationDelivery.next_at <= moment)
            .order_by(NotificationDelivery.next_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        query = (
            update(NotificationDelivery)
            .where(NotificationDelivery.id.in_(due.scalar_subquery()))
            .values(next_at=until, attempts=NotificationDelivery.attempts + 1)
            .returning(NotificationDelivery)
        )
        return list((await self._session.scalars(query, execution_options={"populate_existing": True})).all())

    async def tried(self, delivery_id: int, attempt: int, **values: Any) -> None:
        """Record how an attempt ended, unless another one has begun."""
        await self._session.execute(
            update(NotificationDelivery)
            .where(NotificationDelivery.id == delivery_id, NotificationDelivery.attempts == attempt)
            .values(**values)
        )

    async def forget(self, before: datetime) -> int:
        """Deliveries that ended before then."""
        query = delete(NotificationDelivery).where(
            NotificationDelivery.status != "pending", NotificationDelivery.created_at < before
        )
        result = await self._session.execute(query)
        return int(getattr(result, "rowcount", 0))
