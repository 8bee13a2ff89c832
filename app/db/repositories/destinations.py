"""Queries on destinations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, update

from app.db.models import Backup, BackupCopy, Destination
from app.db.repositories.base import Page, PageRequest, Repository
from app.errors import NotFound


class DestinationRepository(Repository):
    async def get(self, destination_id: int) -> Destination | None:
        return await self._session.get(Destination, destination_id)

    async def named(self, ids: Sequence[int]) -> list[Destination]:
        """In the order of `ids`. Raises NotFound when one is gone."""
        found = [await self.get(number) for number in ids]
        if None in found:
            raise NotFound("The destination was deleted before the operation began")
        return [destination for destination in found if destination is not None]

    async def by_name(self, name: str) -> Destination | None:
        return await self._session.scalar(select(Destination).where(Destination.name == name))

    async def default(self) -> Destination | None:
        return await self._session.scalar(select(Destination).where(Destination.is_default))

    async def page(self, request: PageRequest, user_id: int | None) -> Page[Destination]:
        query = select(Destination)
        if user_id is not None:
            query = query.where(or_(Destination.user_id.is_(None), Destination.user_id == user_id))
        return await self._page(query, request, {"id": Destination.id, "name": Destination.name})

    async def remember(self, destination_id: int, found: dict[str, Any]) -> None:
        """Add to a destination's configuration; what is there stays."""
        destination = await self._session.get(Destination, destination_id, with_for_update=True)
        if destination is not None:
            destination.configuration = {**found, **destination.configuration}

    async def clear_default(self) -> None:
        await self._session.execute(update(Destination).where(Destination.is_default).values(is_default=False))

    async def has_backups(self, destination_id: int) -> bool:
        """Also as a further destination."""
        copies = select(BackupCopy.backup_id).where(BackupCopy.destination_id == destination_id)
        query = select(Backup.id).where(or_(Backup.destination_id == destination_id, Backup.id.in_(copies)))
        return await self._session.scalar(query.limit(1)) is not None

    async def all_ids(self) -> list[int]:
        return list((await self._session.scalars(select(Destination.id))).all())

    async def active(self) -> list[Destination]:
        return list((await self._session.scalars(select(Destination).where(Destination.is_active))).all())

    async def note_prepared(self, destination_id: int, moment: datetime) -> None:
        """Once: the first time stays."""
        await self._session.execute(
            update(Destination)
            .where(Destination.id == destination_id, Destination.prepared_at.is_(None))
            .values(prepared_at=moment)
        )

    async def note_space(self, destination_id: int, free: int, moment: datetime, *, low: bool) -> bool:
        """Remember what is free; whether it has become too little or enough since the last time."""
        known = Destination.space_low_since
        await self._session.execute(
            update(Destination).where(Destination.id == destination_id).values(free_bytes=free, free_at=moment)
        )
        query = (
            update(Destination)
            .where(Destination.id == destination_id, known.is_(None) if low else known.is_not(None))
            .values(space_low_since=moment if low else None)
            .returning(Destination.id)
        )
        return await self._session.scalar(query) is not None
