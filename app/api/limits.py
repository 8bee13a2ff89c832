"""How often, how much, and what browsers are told: before any handler runs."""

from __future__ import annotations

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE
from app.errors import RateLimited
from app.schemas.common import Problem
from app.security.tokens import Principal
from app.settings import ServerSettings
from app.sizes import human_size

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_DOCS = ("/docs", "/redoc")
_UPLOADS = "/api/backups/uploads"


class RateLimiter:
    """Of this process: with several, a client gets so much more. `users`, `operators`: requests a minute of one token
    from one address; `failures`: of an address, of those without a valid token. 0: no limit."""

    def __init__(self, settings: ServerSettings) -> None:
        self._limits = {
            "user": settings.user_requests_per_minute,
            "operator": settings.operator_requests_per_minute,
            "failure": settings.failures_per_minute,
        }
        self._windows = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def admit(self, principal: Principal, address: str) -> None:
        """Raises RateLimited."""
        kind = "operator" if principal.operator else "user"
        await self._hit(kind, str(principal.token_id), address)

    async def failed(self, address: str) -> None:
        """Count a request without a valid token. Raises RateLimited; those with one still pass, since many people may
        be behind one address."""
        await self._hit("failure", address)

    async def _hit(self, kind: str, *key: str) -> None:
        if self._limits[kind] and not await self._windows.hit(self._item(kind), kind, *key):
            raise RateLimited(
                f"More than {self._limits[kind]} requests a minute; wait a moment, or use event streams"
            )

    def _item(self, kind: str) -> RateLimitItemPerMinute:
        return RateLimitItemPerMinute(self._limits[kind])


class TooLarge(Exception):
    """A body that grows beyond what is taken."""


class GuardMiddleware:
    """Pure ASGI. Bodies are counted as they arrive; an upload is counted by its handler."""

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if announced(scope) > self._max_body and scope["path"] != _UPLOADS:
            await _refuse(send, self._max_body)
            return
        body = _Body(receive, None if scope["path"] == _UPLOADS else self._max_body)
        refused = False

        async def protected(message: Message) -> None:
            nonlocal refused
            if refused:
                return
            if message["type"] == "http.response.start":
                if body.too_large:  # whatever the application makes of a body that breaks off
                    refused = True
                    await _refuse(send, self._max_body)
                    return
                extra = _HEADERS if scope["path"].startswith(_DOCS) else (*_HEADERS, _NOTHING)
                present = {name.lower() for name, _ in message["headers"]}
                more = [pair for pair in extra if pair[0] not in present]
                if scope["path"].startswith("/api") and b"cache-control" not in present:
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, body.receive, protected)


class _Body:
    def __init__(self, receive: Receive, most: int | None) -> None:
        self._receive = receive
        self._most = most
        self._seen = 0
        self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._most is not None and self._seen > self._most:
            self.too_large = True
            raise TooLarge
        return message


def announced(scope: Scope) -> int:
    """The size that a request says its body has; 0 when it does not."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(value) if value.isdigit() and len(value) < 20 else 0


async def _refuse(send: Send, most: int) -> None:
    detail = f"A request's body may have {human_size(most)} at most"
    body = Problem(title="Too large", status=413, detail=detail, code="too_large").model_dump_json(exclude_none=True)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
