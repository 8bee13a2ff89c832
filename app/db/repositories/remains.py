"""Queries on what ended restores have left to do."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from app.db.models import Domain, Operation, RestoreRemains
from app.db.repositories.base import Repository
from app.db.repositories.operations import ACTIVE


class RemainsRepository(Repository):
    async def of_operation(self, uid: str) -> list[RestoreRemains]:
        query = select(RestoreRemains).where(RestoreRemains.operation_uid == uid).order_by(RestoreRemains.id)
        return list((await self._session.scalars(query)).all())

    async def of_domain(self, domain_id: int) -> list[RestoreRemains]:
        """The oldest first."""
        query = select(RestoreRemains).where(RestoreRemains.domain_id == domain_id).order_by(RestoreRemains.id)
        return list((await self._session.scalars(query)).all())

    async def replace(self, row: RestoreRemains) -> None:
        """There is one for each part."""
        await self._session.execute(
            delete(RestoreRemains).where(
                RestoreRemains.operation_uid == row.operation_uid, RestoreRemains.part == row.part
            )
        )
        self.add(row)
        await self.flush()

    async def save(self, row: RestoreRemains) -> None:
        """What has changed of a row that was read in another session; nothing when it is gone."""
        if await self._session.get(RestoreRemains, row.id, with_for_update=True) is not None:
            await self._session.merge(row)

    async def there(self, row: RestoreRemains) -> bool:
        """Still, of a row that was read in another session."""
        return await self._session.scalar(select(RestoreRemains.id).where(RestoreRemains.id == row.id)) is not None

    async def forget(self, row: RestoreRemains) -> None:
        await self._session.execute(delete(RestoreRemains).where(RestoreRemains.id == row.id))

    async def of_part(self, operation_uid: str, part: str) -> RestoreRemains | None:
        return await self._session.scalar(
            select(RestoreRemains).where(RestoreRemains.operation_uid == operation_uid, RestoreRemains.part == part)
        )

    async def due_domains(self, moment: datetime) -> list[Domain]:
        """Domains that something is due for, and that nobody sees to at the moment."""
        busy = select(Operation.domain_id).where(
            Operation.type == "tidy", Operation.status.in_(ACTIVE), Operation.domain_id.is_not(None)
        )
        due = select(RestoreRemains.domain_id).where(RestoreRemains.due_at <= moment)
        query = select(Domain).where(Domain.id.in_(due), Domain.id.not_in(busy)).order_by(Domain.id)
        return list((await self._session.scalars(query)).all())

    async def homeless(self) -> list[RestoreRemains]:
        """Of domains that are gone: nobody knows any more where they ran."""
        query = select(RestoreRemains).where(RestoreRemains.domain_id.not_in(select(Domain.id)))
        return list((await self._session.scalars(query)).all())
