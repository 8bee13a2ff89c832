"""Queries on the audit trail and its head."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update

from app.db.models import AuditEvent, AuditHead
from app.db.repositories.base import Page, PageRequest, Repository

_HEAD = 1


class AuditRepository(Repository):
    async def next(self) -> AuditHead:
        """The head, its number already moved on; others wait until this transaction has ended."""
        query = (
            update(AuditHead).where(AuditHead.id == _HEAD).values(number=AuditHead.number + 1).returning(AuditHead)
        )
        head = await self._session.scalar(query, execution_options={"populate_existing": True})
        if head is None:
            self._session.add(
                head := AuditHead(id=_HEAD, number=1, hash="", first_number=1, first_previous="", seal="")
            )
            await self._session.flush()
        return head

    async def head(self) -> AuditHead | None:
        return await self._session.get(AuditHead, _HEAD, populate_existing=True)

    async def chained(self, after: int, limit: int) -> list[AuditEvent]:
        query = select(AuditEvent).where(AuditEvent.number > after).order_by(AuditEvent.number).limit(limit)
        return list((await self._session.scalars(query)).all())

    async def count(self) -> int:
        return await self._session.scalar(select(func.count()).where(AuditEvent.number.is_not(None))) or 0

    async def last_before(self, moment: datetime) -> AuditEvent | None:
        """The last event that, with all before it, is older."""
        younger = select(func.min(AuditEvent.number)).where(AuditEvent.at >= moment)
        first = await self._session.scalar(younger)
        query = select(AuditEvent).where(AuditEvent.number.is_not(None))
        if first is not None:
            query = query.where(AuditEvent.number < first)
        return await self._session.scalar(query.order_by(AuditEvent.number.desc()).limit(1))

    async def remove_through(self, number: int) -> None:
        await self._session.execute(delete(AuditEvent).where(AuditEvent.number <= number))

    async def page(self, request: PageRequest, filters: dict[str, Any]) -> Page[AuditEvent]:
        columns = {"at": AuditEvent.at, "id": AuditEvent.id}
        return await self._page(_filtered(filters), request, columns)

    async def after(self, event_id: int, limit: int, filters: dict[str, Any]) -> list[AuditEvent]:
        query = _filtered(filters).where(AuditEvent.id > event_id).order_by(AuditEvent.id).limit(limit)
        return list((await self._session.scalars(query)).all())


def _filtered(filters: dict[str, Any]) -> Any:
    """Of `action`, `target`: a part; of the others: the value; `since`, `until`: a time."""
    query = select(AuditEvent)
    for name, value in filters.items():
        if value is None:
            continue
        if name in ("action", "target"):
            query = query.where(getattr(AuditEvent, name).contains(value, autoescape=True))
        elif name == "since":
            query = query.where(AuditEvent.at >= value)
        elif name == "until":
            query = query.where(AuditEvent.at < value)
        else:
            query = query.where(getattr(AuditEvent, name) == value)
    return query
