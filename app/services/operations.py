"""OperationService: running and ended jobs, as people see and steer them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.exc import IntegrityError

from app.db.base import now
from app.db.models import IdempotencyKey, Operation, SseTicket
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.operations import OperationRepository
from app.db.repositories.security import TicketRepository
from app.errors import AlreadyRunning, Conflict, IdempotencyMismatch, NotFound
from app.security.tokens import Ability, Principal, hash_token
from app.services.unit import Unit


class JobQueue(Protocol):
    """The engine, as services see it."""

    async def wake(self) -> None:
        """An operation was recorded: it begins when it is its turn."""


#: The ability that starts an operation cancels it too.
_CANCEL: dict[str, Ability] = {
    "backup": "backups:create",
    "restore": "backups:restore",
    "bulk_restore": "backups:restore",
    "import": "backups:import",
    "verify": "backups:create",
    "cleanup": "backups:delete",
    "scan": "destinations:manage",
    "sweep": "backups:delete",
    "tidy": "backups:restore",
}


class Idempotency:
    """An `Idempotency-Key` of one request: the same key and body give the same operation for 24 hours."""

    def __init__(self, key: str | None, route: str, body: bytes) -> None:
        self.key = key
        self.route = route
        self.sha256 = hashlib.sha256(body).hexdigest()


class OperationService:
    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    async def get(self, unit: Unit, principal: Principal, operation_id: int) -> Operation:
        operation = await OperationRepository(unit.session).get(operation_id)
        if operation is None:
            raise NotFound(f"There is no operation {operation_id}")
        principal.require_owner(operation.user_id, f"operation {operation_id}")
        return operation

    async def page(
        self, unit: Unit, principal: Principal, request: PageRequest, type: str | None, status: str | None
    ) -> Page[Operation]:
        repository = OperationRepository(unit.session)
        return await repository.page(request, user_id=principal.user_id, type=type, status=status)

    async def start(
        self,
        unit: Unit,
        principal: Principal,
        idempotency: Idempotency,
        make: Callable[[], Awaitable[Operation]],
    ) -> Operation:
        """Record what `make` makes, and hand it to the engine once it is committed.

        Raises AlreadyRunning for a second active backup of one domain and type, IdempotencyMismatch.
        """
        repository = OperationRepository(unit.session)
        if idempotency.key is not None:
            known = await repository.idempotent(principal.token_id, idempotency.route, idempotency.key)
            if known is not None:
                if known.body_sha256 != idempotency.sha256:
                    raise IdempotencyMismatch("This Idempotency-Key was used with another body")
                return await self.get(unit, principal, known.operation_id)
        operation = await make()
        await self.record(unit, operation)
        if idempotency.key is not None:
            repository.add(
                IdempotencyKey(
                    token_id=principal.token_id,
                    route=idempotency.route,
                    key=idempotency.key,
                    body_sha256=idempotency.sha256,
                    operation_id=operation.id,
                )
            )
            await repository.flush()
        return operation

    async def record(self, unit: Unit, operation: Operation) -> None:
        """It begins when it is its turn, once it is committed. Raises AlreadyRunning."""
        repository = OperationRepository(unit.session)
        repository.add(operation)
        try:
            await repository.flush()
        except IntegrityError as error:
            raise AlreadyRunning(
                f"A {operation.backup_type} backup of this domain is running already; wait for it or cancel it"
            ) from error
        if self._queue.wake not in unit.after_commit:
            unit.after_commit.append(self._queue.wake)

    async def cancel(self, unit: Unit, principal: Principal, operation_id: int) -> Operation:
        """A pending operation is cancelled at once, a running one stops within seconds. Raises Conflict."""
        operation = await self.get(unit, principal, operation_id)
        principal.require(_CANCEL[operation.type])
        repository = OperationRepository(unit.session)
        status = await repository.request_cancel(operation_id)
        if status is None:
            raise Conflict(f"Operation {operation_id} has ended already: {operation.status}")
        return await self.get(unit, principal, operation_id)

    async def ticket(self, unit: Unit, principal: Principal, operation_id: int) -> tuple[str, datetime]:
        """A one-time ticket for the operation's event stream, valid for a minute."""
        await self.get(unit, principal, operation_id)
        tickets = TicketRepository(unit.session)
        await tickets.forget_expired()
        ticket, expires_at = secrets.token_urlsafe(24), now() + timedelta(minutes=1)
        tickets.add(SseTicket(ticket_sha256=hash_token(ticket), operation_id=operation_id, expires_at=expires_at))
        return ticket, expires_at


def view(operation: Operation) -> dict[str, Any]:
    """What an event of the stream holds: state, bytes, rate (bytes a second), ETA (seconds), components."""
    elapsed = 0.0
    if operation.started_at is not None:
        elapsed = ((operation.finished_at or now()) - operation.started_at).total_seconds()
    rate = operation.bytes_done / elapsed if elapsed > 0 else 0.0
    left = max(operation.bytes_total - operation.bytes_done, 0) if operation.bytes_total else None
    return {
        "id": operation.id,
        "status": operation.status,
        "bytes_done": operation.bytes_done,
        "bytes_total": operation.bytes_total,
        "rate": round(rate),
        "eta_seconds": round(left / rate) if left is not None and rate > 0 else None,
        "components": operation.progress,
        "error_message": operation.error_message,
    }
