"""Backups, restores and operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials

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
from app.db.session import Database
from app.errors import NotFound, Unauthenticated
from app.schemas.backups import BackupIn, BackupOut, BackupType, BackupUpdate, BulkRestoreIn, RestoreIn, Stats, Status
from app.schemas.common import PageOf
from app.schemas.operations import OperationOut, Ticket
from app.services.operations import view

router = APIRouter(prefix="/api")
_TICK_SECONDS = 0.5


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
    domain_id: int | None = None,
    type: BackupType | None = None,
    status: Status | None = None,
    destination_id: int | None = None,
) -> PageOf[BackupOut]:
    filters = {"domain_id": domain_id, "type": type, "status": status, "destination_id": destination_id}
    return paged(await services.backups.page(unit, caller, paging, filters), BackupOut)


@router.get("/backups/stats", tags=["backups"])
async def backup_stats(unit: Transaction, caller: Reader, services: Services, domain_id: int | None = None) -> Stats:
    return Stats.model_validate(await services.backups.stats(unit, caller, domain_id))


@router.get("/backups/{backup_id}", tags=["backups"])
async def get_backup(backup_id: int, unit: Transaction, caller: Reader, services: Services) -> BackupOut:
    return BackupOut.model_validate(await services.backups.get(unit, caller, backup_id))


@router.put("/backups/{backup_id}", tags=["backups"])
async def update_backup(
    backup_id: int, body: BackupUpdate, unit: Transaction, caller: Caller, services: Services
) -> BackupOut:
    """Name, description and lock."""
    return BackupOut.model_validate(await services.backups.update(unit, caller, backup_id, body))


@router.delete("/backups/{backup_id}", status_code=204, tags=["backups"])
async def delete_backup(backup_id: int, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.backups.delete(unit, caller, backup_id)


@router.get(
    "/backups/{backup_id}/components/{number}/download",
    tags=["backups"],
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The component's plain content"}},
)
async def download_component(
    backup_id: int, number: int, unit: Transaction, caller: Caller, services: Services
) -> StreamingResponse:
    """A tar archive or a dump. A transfer that ends before Content-Length is not whole: it must not be used."""
    found = await services.downloads.open(unit, caller, backup_id, number)
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"', "Content-Length": str(found.size)}
    return StreamingResponse(found.stream, media_type="application/octet-stream", headers=headers)


@router.post("/backups/{backup_id}/restore", status_code=202, tags=["backups"])
async def restore_backup(
    backup_id: int,
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
    backup_id: int, unit: Transaction, caller: Caller, services: Services, idempotency: IdempotencyKey
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
    type: str | None = None,
    status: Status | None = None,
) -> PageOf[OperationOut]:
    return paged(await services.operations.page(unit, caller, paging, type, status), OperationOut)


@router.get("/operations/{operation_id}", tags=["operations"])
async def get_operation(operation_id: int, unit: Transaction, caller: Reader, services: Services) -> OperationOut:
    return OperationOut.model_validate(await services.operations.get(unit, caller, operation_id))


@router.post("/operations/{operation_id}/cancel", tags=["operations"])
async def cancel_operation(operation_id: int, unit: Transaction, caller: Caller, services: Services) -> OperationOut:
    return OperationOut.model_validate(await services.operations.cancel(unit, caller, operation_id))


@router.post("/operations/{operation_id}/ticket", status_code=201, tags=["operations"])
async def create_ticket(operation_id: int, unit: Transaction, caller: Reader, services: Services) -> Ticket:
    """A one-time ticket for a browser's EventSource, which sends no header."""
    ticket, expires_at = await services.operations.ticket(unit, caller, operation_id)
    return Ticket(ticket=ticket, expires_at=expires_at)


async def allowed(
    operation_id: int,
    request: Request,
    unit: Transaction,
    services: Services,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ticket: Annotated[str | None, Query(max_length=100)] = None,
) -> int:
    """A bearer token, or a ticket of this operation."""
    if ticket is not None:
        if not await services.operations.redeem(unit, ticket, operation_id):
            raise Unauthenticated("This ticket is unknown, used or expired")
        return operation_id
    caller = await principal(request, unit, credentials)
    caller.require("backups:read")
    await services.operations.get(unit, caller, operation_id)
    return operation_id


@router.get("/operations/{operation_id}/events", tags=["operations"], response_class=StreamingResponse)
async def operation_events(
    operation: Annotated[int, Depends(allowed, scope="function")], services: Services
) -> StreamingResponse:
    """Server-sent events: state, bytes, rate, ETA and components, until the operation ends."""
    events = _events(services.database, operation)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(database: Database, operation_id: int) -> AsyncGenerator[str, None]:
    from app.db.repositories.operations import OperationRepository

    last = ""
    number = 0
    while True:
        async with database.transaction() as session:  # short: no session is held between two events
            operation = await OperationRepository(session).get(operation_id)
        if operation is None:
            raise NotFound(f"There is no operation {operation_id}")
        data = json.dumps(view(operation))
        ended = operation.status not in ("pending", "running")
        if data != last:
            number += 1
            yield f"id: {number}\nevent: {'ended' if ended else 'progress'}\ndata: {data}\n\n"
            last = data
        else:
            yield ": waiting\n\n"
        if ended:
            return
        await asyncio.sleep(_TICK_SECONDS)
