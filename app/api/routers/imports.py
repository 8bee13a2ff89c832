"""Imports of foreign backups."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.api.dependencies import Caller, IdempotencyKey, Paging, Services, Transaction
from app.api.limits import announced
from app.api.routers.resources import paged
from app.schemas.common import PageOf
from app.schemas.imports import ImportIn, UploadId, UploadInfo, UploadOut
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
    """An archive to import, as the request's body; kept for a day, or as the settings say."""
    return await services.imports.upload(unit, caller, request.stream(), announced(request.scope))


@router.get("/backups/uploads", tags=["imports"])
async def list_uploads(caller: Caller, services: Services, paging: Paging) -> PageOf[UploadInfo]:
    """What was uploaded and not imported yet; an operator sees everybody's."""
    return paged(await services.imports.uploads(caller, paging), UploadInfo)


@router.delete("/backups/uploads/{upload_id}", status_code=204, tags=["imports"])
async def delete_upload(upload_id: UploadId, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.imports.delete_upload(unit, caller, upload_id)
