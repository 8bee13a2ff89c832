"""Backups, restores and operations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials
from starlette.types import Receive, Scope, Send

from app.api.dependencies import (
    Caller,
    IdempotencyKey,
    Paging,
    Reader,
    Services,
    Transaction,
    _bearer,
    principal,
)
from app.api.routers.resources import paged
from app.schemas.backups import BackupIn, BackupOut, BackupType, BackupUpdate, BulkRestoreIn, RestoreIn, Stats, Status
from app.schemas.common import Id, PageOf, Text
from app.schemas.operations import Accounts, OperationOut, Ticket
from app.services.events import Subscription

router = APIRouter(prefix="/api")


@router.post("/backups", status_code=202, tags=["backups"])
async def create_backup(
    body: BackupIn, unit: Transaction, caller: Caller, services: Services, idempotency: IdempotencyKey
) -> OperationOut:
    return OperationOut.model_validate(await services.backups.create(unit, caller, body, idempotency))


@router.get("/backups", tags=["backups"])
async def list_backups(
    unit: Transaction,
    caller: Reader,
    services: Services,
    paging: Paging,
    domain_id: Id | None = None,
    type: BackupType | None = None,
    status: Status | None = None,
    destination_id: Id | None = None,
) -> PageOf[BackupOut]:
    filters = {"domain_id": domain_id, "type": type, "status": status, "destination_id": destination_id}
    return paged(await services.backups.page(unit, caller, paging, filters), BackupOut)


@router.get("/backups/stats", tags=["backups"])
async def backup_stats(unit: Transaction, caller: Reader, services: Services, domain_id: Id | None = None) -> Stats:
    return Stats.model_validate(await services.backups.stats(unit, caller, domain_id))


@router.get("/backups/{backup_id}", tags=["backups"])
async def get_backup(backup_id: Id, unit: Transaction, caller: Reader, services: Services) -> BackupOut:
    return BackupOut.model_validate(await services.backups.get(unit, caller, backup_id))


@router.put("/backups/{backup_id}", tags=["backups"])
async def update_backup(
    backup_id: Id, body: BackupUpdate, unit: Transaction, caller: Caller, services: Services
) -> BackupOut:
    """Name, description and lock."""
    return BackupOut.model_validate(await services.backups.update(unit, caller, backup_id, body))


@router.delete("/backups/{backup_id}", status_code=204, tags=["backups"])
async def delete_backup(backup_id: Id, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.backups.delete(unit, caller, backup_id)


@router.get(
    "/backups/{backup_id}/components/{number}/download",
    tags=["backups"],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The component's plain content"}},
)
async def download_component(
    backup_id: Id, number: Id, unit: Transaction, caller: Caller, services: Services
) -> StreamingResponse:
    """A tar archive or a dump. A transfer that ends before Content-Length is not whole: it must not be used."""
    found = await services.downloads.open(unit, caller, backup_id, number)
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"', "Content-Length": str(found.size)}
    return StreamingResponse(found.stream, media_type="application/octet-stream", headers=headers)


@router.post("/backups/{backup_id}/restore", status_code=202, tags=["backups"])
async def restore_backup(
    backup_id: Id,
    body: RestoreIn,
    unit: Transaction,
    caller: Caller,
    services: Services,
    idempotency: IdempotencyKey,
) -> OperationOut:
    operation = await services.backups.restore(unit, caller, backup_id, body, idempotency)
    return OperationOut.model_validate(operation)


@router.post("/backups/bulk-restore", status_code=202, tags=["backups"])
async def bulk_restore(
    body: BulkRestoreIn, unit: Transaction, caller: Caller, services: Services, idempotency: IdempotencyKey
) -> OperationOut:
    """Many backups in one operation, whose result is `{total, successful, failed, not_started[], details[]}`."""
    return OperationOut.model_validate(await services.bulk_restores.start(unit, caller, body, idempotency))


@router.post("/backups/{backup_id}/verify", status_code=202, tags=["backups"])
async def verify_backup(
    backup_id: Id, unit: Transaction, caller: Caller, services: Services, idempotency: IdempotencyKey
) -> OperationOut:
    """Read every copy to its last byte and compare it with the signed manifest; one that is damaged is marked so."""
    operation = await services.backups.verify(unit, caller, backup_id, idempotency)
    return OperationOut.model_validate(operation)


@router.get("/operations", tags=["operations"])
async def list_operations(
    unit: Transaction,
    caller: Reader,
    services: Services,
    paging: Paging,
    type: Text | None = None,
    status: Status | None = None,
) -> PageOf[OperationOut]:
    return paged(await services.operations.page(unit, caller, paging, type, status), OperationOut)


@router.get("/operations/{operation_id}", tags=["operations"])
async def get_operation(operation_id: Id, unit: Transaction, caller: Reader, services: Services) -> OperationOut:
    return OperationOut.model_validate(await services.operations.get(unit, caller, operation_id))


@router.post("/operations/{operation_id}/cancel", tags=["operations"])
async def cancel_operation(operation_id: Id, unit: Transaction, caller: Caller, services: Services) -> OperationOut:
    return OperationOut.model_validate(await services.operations.cancel(unit, caller, operation_id))


@router.post("/operations/{operation_id}/ticket", status_code=201, tags=["operations"])
async def create_ticket(operation_id: Id, unit: Transaction, caller: Reader, services: Services) -> Ticket:
    """A one-time ticket for a browser's EventSource, which sends no header."""
    ticket, expires_at = await services.operations.ticket(unit, caller, operation_id)
    return Ticket(ticket=ticket, expires_at=expires_at)


@router.post("/operations/{operation_id}/accounts", tags=["operations"])
async def tell_accounts(operation_id: Id, unit: Transaction, caller: Caller, services: Services) -> Accounts:
    """Accounts of the databases that a restore has made, with their passwords: told once, to an operator."""
    return Accounts(accounts=await services.new_databases.accounts(unit, caller, operation_id))


async def allowed(
    operation_id: Id,
    request: Request,
    unit: Transaction,
    services: Services,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ticket: Annotated[str | None, Query(max_length=100)] = None,
    last_event_id: Annotated[str | None, Header(max_length=200)] = None,
) -> Subscription:
    """A bearer token, or a ticket of this operation."""
    if ticket is not None:
        return await services.events.by_ticket(unit, operation_id, ticket, last_event_id)
    caller = await principal(request, unit, services, credentials)
    caller.require("backups:read")
    await services.operations.get(unit, caller, operation_id)
    return Subscription(operation_id, caller.actor, last_event_id or "")


@router.get("/operations/{operation_id}/events", tags=["operations"], response_class=StreamingResponse)
async def operation_events(
    subscription: Annotated[Subscription, Depends(allowed, scope="function")], services: Services
) -> StreamingResponse:
    """Server-sent events: state, bytes, rate, ETA and components, until the operation ends. A client that connects
    again sends `Last-Event-ID`, as browsers do: it gets what has changed since then, from any process of the service,
    with the same ticket."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return _Events(services, subscription, headers)


class _Events(StreamingResponse):
    """Counted from here on: a stream whose client has gone before is never begun."""

    def __init__(self, services: Services, subscription: Subscription, headers: dict[str, str]) -> None:
        super().__init__(_written(services, subscription), media_type="text/event-stream", headers=headers)
        self._seat = services.events.seat(subscription.owner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seat:
            await super().__call__(scope, receive, send)


async def _written(services: Services, subscription: Subscription) -> AsyncGenerator[str, None]:
    """As the HTML standard has it, section 9.2: what begins with a colon is a comment."""
    yield "retry: 2000\n\n"
    async with aclosing(services.events.stream(subscription)) as events:
        async for event in events:
            yield f"id: {event.id}\nevent: {event.name}\ndata: {event.data}\n\n" if event.name else ": waiting\n\n"
