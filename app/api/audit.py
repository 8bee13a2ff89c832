"""One audit row for every request that changes something and every one that is refused."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db.session import Database
from app.security.tokens import Principal

log = logging.getLogger(__name__)
_READING = ("GET", "HEAD", "OPTIONS")
_REFUSED = (401, 403)


class AuditMiddleware:
    """Pure ASGI: no body is buffered, and the row is written before the response is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(8)

        async def audited(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", state["request_id"].encode())]
                if scope["path"].startswith("/api") and _worth(scope, state, message["status"]):
                    await _write(scope, state, message["status"])
            await send(message)

        await self._app(scope, receive, audited)


def _worth(scope: Scope, state: dict[str, Any], status: int) -> bool:
    """What changes something, what is refused, and what takes data away. Without a
    valid token nothing is changed: of that only refusals are recorded, until there are too many (429)."""
    if status == 429 or (state.get("principal") is None and status not in _REFUSED):
        return False
    return scope["method"] not in _READING or status in _REFUSED or scope["path"].endswith(("/download", "/export"))


async def _write(scope: Scope, state: dict[str, Any], status: int) -> None:
    principal: Principal | None = state.get("principal")
    route = getattr(scope.get("route"), "path", None) or scope["path"][:200]
    database: Database = scope["app"].state.container.database
    client = scope.get("client")
    try:
        async with database.transaction() as session:
            await scope["app"].state.container.audit.record(
                session,
                actor=principal.actor if principal else None,
                token_id=principal.token_id if principal and principal.token_id > 0 else None,
                user_id=principal.user_id if principal else None,
                address=client[0] if client else None,
                request_id=state["request_id"],
                action=f"{scope['method']} {route}",
                target=scope["path"][:1000],
                outcome=str(status),
                detail={"changes": state["changes"]} if state.get("changes") else {},
            )
    except Exception:  # the answer still goes out; the loss of an audit row must be seen
        log.exception("An audit row could not be written: %s %s", scope["method"], route)
