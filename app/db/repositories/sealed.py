"""Everything that is sealed under the master key, wherever it lies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from app.db.models import Destination, Domain, DomainDatabase, NotificationChannel, Operation
from app.db.models.operation import IDENTITY
from app.db.repositories.base import Repository
from app.db.repositories.operations import ACTIVE

IDENTITY_EXPIRED = "identity_expired"
NOT_BEGUN = "It did not begin within a day; the key that came with it was forgotten. Ask for it again"
#: Tables with a sealed column.
COLUMNS = (
    (Destination, Destination.credentials),
    (Domain, Domain.deployment_credentials),
    (DomainDatabase, DomainDatabase.credentials),
    (NotificationChannel, NotificationChannel.credentials),
)


class SealedRepository(Repository):
    async def batch(self, which: int, after: int, limit: int) -> list[tuple[int, str]]:
        """Ids and sealed values of `COLUMNS[which]`."""
        model, column = COLUMNS[which]
        query = select(model.id, column).where(model.id > after, column.is_not(None)).order_by(model.id).limit(limit)
        return [(number, sealed) for number, sealed in (await self._session.execute(query)).all() if sealed]

    async def replace(self, which: int, row_id: int, before: str, sealed: str) -> bool:
        """False when it was changed meanwhile."""
        model, column = COLUMNS[which]
        query = update(model).where(model.id == row_id, column == before).values({column.key: sealed})
        return await self._session.scalar(query.returning(model.id)) is not None

    async def with_identity(self) -> list[Operation]:
        """Operations that have not ended and hold somebody's key."""
        query = select(Operation).where(Operation.status.in_(ACTIVE), Operation.type.in_(("restore", "bulk_restore")))
        found = (await self._session.scalars(query)).all()
        return [operation for operation in found if operation.request.get(IDENTITY)]

    async def replace_identity(self, operation: Operation, change: Callable[[str], str]) -> None:
        request: dict[str, Any] = dict(operation.request)
        request[IDENTITY] = change(request[IDENTITY])
        await self._session.execute(update(Operation).where(Operation.id == operation.id).values(request=request))

    async def give_up(self, operation: Operation, moment: datetime) -> bool:
        """End an operation that has not begun, and forget the key. False when it has begun or ended meanwhile."""
        query = (
            update(Operation)
            .where(Operation.id == operation.id, Operation.status == "pending")
            .values(
                status="failed",
                request=operation.lasting_request,
                finished_at=moment,
                error_code=IDENTITY_EXPIRED,
                error_message=NOT_BEGUN,
            )
            .returning(Operation.id)
        )
        return await self._session.scalar(query) is not None
