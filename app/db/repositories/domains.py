"""Queries on domains."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import selectinload

from app.db.models import Domain, Operation
from app.db.repositories.base import Page, PageRequest, Repository

_WITH_ALL = (selectinload(Domain.databases), selectinload(Domain.mailboxes))


class DomainRepository(Repository):
    async def get(self, domain_id: int) -> Domain | None:
        return await self._session.scalar(select(Domain).where(Domain.id == domain_id).options(*_WITH_ALL))

    async def remember(self, domain_id: int, found: dict[str, Any]) -> None:
        """Add to a domain's deployment setting; what is there stays."""
        domain = await self._session.get(Domain, domain_id, with_for_update=True)
        if domain is not None:
            domain.deployment = {**found, **{k: v for k, v in domain.deployment.items() if v is not None}}

    async def by_uid(self, uid: str) -> Domain | None:
        return await self._session.scalar(select(Domain).where(Domain.uid == uid))

    async def by_name(self, name: str) -> Domain | None:
        return await self._session.scalar(select(Domain).where(Domain.domain_name == name).options(*_WITH_ALL))

    async def page(self, request: PageRequest, user_id: int | None, search: str | None) -> Page[Domain]:
        query = select(Domain).options(*_WITH_ALL)
        if user_id is not None:
            query = query.where(Domain.user_id == user_id)
        if search:
            shown = unicodedata.normalize("NFC", search).lower()
            found = Domain.domain_name.contains(search.lower(), autoescape=True)
            query = query.where(or_(found, Domain.domain_name_unicode.contains(shown, autoescape=True)))
        columns = {"domain_name": Domain.domain_name, "id": Domain.id, "created_at": Domain.created_at}
        return await self._page(query, request, columns)

    async def has_active_operation(self, domain_uid: str, types: Collection[str] = ()) -> bool:
        """`types`: of operations; any, when there are none."""
        query = select(Operation.id).where(
            Operation.domain_uid == domain_uid, Operation.status.in_(("pending", "running"))
        )
        if types:
            query = query.where(Operation.type.in_(types))
        return await self._session.scalar(query.limit(1)) is not None

    async def name(self, domain_id: int) -> str | None:
        return await self._session.scalar(select(Domain.domain_name).where(Domain.id == domain_id))
