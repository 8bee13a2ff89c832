"""Health checks and metrics; no token."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from app.api.dependencies import Services, Transaction
from app.services.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready")
async def ready(services: Services, response: Response) -> dict[str, str]:
    """The database answers; 503 while it does not."""
    try:
        async with asyncio.timeout(5):
            await services.database.ping()
    except Exception:  # whatever is wrong, we are not ready
        response.status_code = 503
        return {"status": "database unreachable"}
    if await services.room.low():
        return {"status": "ok", "disk": "the data folder has little room left: backups and imports wait"}
    return {"status": "ok"}


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text"}},
)
async def metrics(unit: Transaction, services: Services) -> Response:
    """Numbers and ids for a monitoring system, no names."""
    return Response(await services.metrics.text(unit), media_type=CONTENT_TYPE)
