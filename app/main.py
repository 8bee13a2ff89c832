"""The web application."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware

from app.api import problems
from app.api.audit import AuditMiddleware
from app.api.clients import ClientAddressMiddleware, Trusted
from app.api.limits import GuardMiddleware
from app.api.routers import audit, backups, health, imports, notifications, quotas, resources, schedules
from app.bootstrap import application
from app.schemas.common import Problem
from app.security.recovery_kit import kit_saved
from app.settings import Settings

_BANNER = """
First start. This admin token is shown once, keep it now:

    {token}

The keys are in {keys}: without them no encrypted backup can be opened.
"""
_NO_KIT = """Nobody has confirmed that a recovery kit is kept elsewhere: without one, lost keys are lost backups.
    python -m app.cli recovery-kit FILE      then, when it is in a safe place:
    python -m app.cli recovery-kit-saved"""

_ERRORS = {code: {"model": Problem} for code in (401, 403, 404, 409, 413, 422, 429, 502, 507)}


def create_app(settings: Settings | None = None) -> FastAPI:
    """`settings` None: from the environment."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with application(chosen) as started:
            app.state.container = started.container
            keys = chosen.keys_folder
            if started.first_token is not None:
                print(_BANNER.format(token=started.first_token, keys=keys), flush=True)  # noqa: T201,RUF100
            if not kit_saved(keys):
                print(_NO_KIT, flush=True)  # noqa: T201,RUF100
            yield

    app = FastAPI(
        title="Liberu Backup",
        version="0.1.0",
        description="Backs up and restores the sites of a hosting control panel.",
        lifespan=lifespan,
    )
    if chosen.jobs.role != "worker":
        for router in (
            resources.router,
            imports.router,
            backups.router,
            schedules.router,
            quotas.router,
            notifications.router,
            audit.router,
        ):
            app.include_router(router, responses=_ERRORS)  # type: ignore[arg-type]
    app.include_router(health.router)
    app.add_middleware(AuditMiddleware)
    app.add_middleware(GuardMiddleware, max_body=chosen.server.max_body)
    if chosen.server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=chosen.server.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["X-Request-Id"],
        )
    app.add_middleware(ClientAddressMiddleware, trusted=Trusted(chosen.server.trusted_proxies))
    problems.install(app)
    described_once(app)
    return app


def described_once(app: FastAPI) -> None:
    """The API's description is written once: anybody may ask for it, and it takes longer than any other answer."""
    app.router.routes = [route for route in app.router.routes if getattr(route, "path", None) != app.openapi_url]
    text = b""

    async def description(request: Request) -> Response:
        nonlocal text
        text = text or json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()
        return Response(text, media_type="application/json")

    app.add_route(app.openapi_url or "", description, include_in_schema=False)
