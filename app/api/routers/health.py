"""Health checks; no token."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from app.api.dependencies import Services

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(services: Services, response: Response) -> dict[str, str]:
    """The database answers; 503 while it does not."""
    try:
        async with asyncio.timeout(5):
            await services.database.ping()
    except Exception:  # whatever is wrong, we are not ready
        response.status_code = 503
        return {"status": "database unreachable"}
    return {"status": "ok"}
