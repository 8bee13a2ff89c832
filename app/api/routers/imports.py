"""Imports of foreign backups."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.api.dependencies import Caller, IdempotencyKey, Services, Transaction
from app.schemas.imports import ImportIn, UploadOut
from app.schemas.operations import OperationOut

router = APIRouter(prefix="/api")
_BODY = {"requestBody": {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}}  # fmt: skip


@router.post("/backups/import-external", status_code=202, tags=["imports"])
async def import_external(
    body: ImportIn, unit: Transaction, caller: Caller, services: Services, idempotency: IdempotencyKey
) -> OperationOut:
    """A backup of cPanel, recognised by its content, into domains that are here. The operation's result holds the
    inventory and, for each part, where it went or why it did not."""
    return OperationOut.model_validate(await services.imports.start(unit, caller, body, idempotency))


@router.post("/backups/uploads", status_code=201, tags=["imports"], openapi_extra=_BODY)
async def upload(request: Request, unit: Transaction, caller: Caller, services: Services) -> UploadOut:
    """An archive to import, as the request's body; kept for a day."""
    return await services.imports.upload(unit, caller, request.stream())
