"""Queries on domains."""

from __future__ import annotations

import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import selectinload

from app.db.models import Domain, DomainDatabase, Operation
from app.db.repositories.base import Page, PageRequest, Repository
from app.db.repositories.operations import ACTIVE

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

    async def after(self, domain_id: int, most: int) -> list[Domain]:
        """Those with the next higher ids, in their order."""
        query = select(Domain).where(Domain.id > domain_id).order_by(Domain.id).limit(most).options(*_WITH_ALL)
        return list((await self._session.scalars(query)).all())

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

    async def made_by(self, operation_uid: str) -> list[DomainDatabase]:
        """Databases that an operation has made and whose passwords nobody has been told; from now on they are."""
        query = (
            update(DomainDatabase)
            .where(DomainDatabase.made_by == operation_uid)
            .values(made_by=None)
            .returning(DomainDatabase)
        )
        return list((await self._session.scalars(query)).all())

    async def has_active_operation(self, domain_uid: str) -> bool:
        return await self._any(Operation.domain_uid == domain_uid, Operation.status.in_(ACTIVE))

    async def runs(self, domain_uid: str) -> bool:
        """Whether an operation of it is at work now; one that waits, perhaps for a server that is gone, is not."""
        return await self._any(Operation.domain_uid == domain_uid, Operation.status == "running")

    async def is_being_changed(self, domain: Domain) -> bool:
        """Whether an operation changes, or will change, what is live of it. An import may be of many domains: its
        journal names those that it has begun with."""
        changes = Operation.type.in_(("restore", "import", "tidy"))
        if await self._any(Operation.domain_uid == domain.uid, changes, Operation.status.in_(ACTIVE)):
            return True
        imports = select(Operation.journal).where(Operation.type == "import", Operation.status.in_(ACTIVE))
        journals = (await self._session.scalars(imports)).all()
        return any(part.get("domain_id") == domain.id for journal in journals for part in journal.values())

    async def _any(self, *conditions: ColumnElement[bool]) -> bool:
        return await self._session.scalar(select(Operation.id).where(*conditions).limit(1)) is not None

    async def name(self, domain_id: int) -> str | None:
        return await self._session.scalar(select(Domain.domain_name).where(Domain.id == domain_id))
