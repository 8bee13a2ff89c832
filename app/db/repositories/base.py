"""What all repositories share: a session, and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    page: int = 1
    per_page: int = 15
    sort: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: Sequence[T]
    total: int
    request: PageRequest


class Repository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, item: object) -> None:
        self._session.add(item)

    async def flush(self) -> None:
        await self._session.flush()

    async def delete(self, item: object) -> None:
        await self._session.delete(item)

    async def _page(self, query: Select[T], request: PageRequest, columns: dict[str, Any]) -> Page[T]:
        """`sort` names a column of `columns`, with a leading `-` for descending; the first is the default."""
        total = await self._session.scalar(select(func.count()).select_from(query.order_by(None).subquery()))
        name = request.sort.removeprefix("-")
        column = columns.get(name, next(iter(columns.values())))
        descending = request.sort.startswith("-") or not request.sort
        identity = columns["id"]
        ordered = query.order_by(column.desc() if descending else column, identity.desc() if descending else identity)
        limited = ordered.limit(request.per_page).offset((request.page - 1) * request.per_page)
        return Page((await self._session.scalars(limited)).unique().all(), total or 0, request)
