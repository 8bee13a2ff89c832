"""The audit trail."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from app.api.dependencies import Caller, Paging, Services, Transaction
from app.api.routers.resources import paged
from app.db.models import AuditEvent
from app.schemas.common import Id, Moment, PageOf, Text
from app.schemas.operations import AuditEventOut

router = APIRouter(prefix="/api/audit-events", tags=["security"])


def filters(
    action: Text | None = None,
    target: Text | None = None,
    outcome: Text | None = None,
    actor: Text | None = None,
    address: Text | None = None,
    token_id: Id | None = None,
    user_id: Id | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> dict[str, Any]:
    """`action`, `target`: a part of them."""
    return {
        "action": action, "target": target, "outcome": outcome, "actor": actor, "address": address,
        "token_id": token_id, "user_id": user_id, "since": since, "until": until,
    }  # fmt: skip


Filters = Annotated[dict[str, Any], Depends(filters)]


@router.get("")
async def list_audit_events(
    unit: Transaction, caller: Caller, services: Services, paging: Paging, chosen: Filters
) -> PageOf[AuditEventOut]:
    return paged(await services.audit.page(unit, caller, paging, chosen), AuditEventOut)


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}}, "description": "One event a line, the oldest first"}},
)
async def export_audit_events(caller: Caller, services: Services, chosen: Filters) -> StreamingResponse:
    """All events that fit, each a line of JSON."""
    events = await services.audit.export(caller, services.database, chosen)
    return StreamingResponse(_lines(events), media_type="application/x-ndjson")


async def _lines(events: AsyncGenerator[AuditEvent, None]) -> AsyncGenerator[str, None]:
    async for event in events:
        yield AuditEventOut.model_validate(event).model_dump_json() + "\n"
