"""What handlers are given: the service container, one transaction, the caller, a page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.clients import network_of
from app.api.container import Container
from app.db.changes import KEY
from app.db.repositories.base import PageRequest
from app.db.repositories.security import TokenRepository
from app.errors import Unauthenticated
from app.security.jwt import looks_like_jwt
from app.security.tokens import Principal, hash_token
from app.services.operations import Idempotency
from app.services.unit import Unit, transaction

_bearer = HTTPBearer(auto_error=False, description="An API token of this service")


def container(request: Request) -> Container:
    found: Container = request.app.state.container
    return found


Services = Annotated[Container, Depends(container)]


async def unit(request: Request, services: Services) -> AsyncGenerator[Unit, None]:
    """One transaction a request: committed before the response goes out, rolled back on any error. What it has
    changed is left for the audit trail."""
    async with transaction(services.database) as opened:
        yield opened
    request.state.changes = opened.session.info.get(KEY, [])


Transaction = Annotated[Unit, Depends(unit, scope="function")]


async def principal(
    request: Request,
    opened: Transaction,
    services: Services,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Raises Unauthenticated, RateLimited."""
    address = network_of(request.client.host) if request.client is not None else ""
    try:
        caller = await _caller(opened, services, credentials)
    except Unauthenticated:
        await services.limiter.failed(address)
        raise
    request.state.principal = caller
    await services.limiter.admit(caller, address)
    return caller


async def _caller(opened: Unit, services: Container, credentials: HTTPAuthorizationCredentials | None) -> Principal:
    if credentials is None:
        raise Unauthenticated("A bearer token is needed: Authorization: Bearer <token>")
    text = credentials.credentials
    if looks_like_jwt(text) and (found := await services.jwt.principal(text)) is not None:
        return found
    tokens = TokenRepository(opened.session)
    token = await tokens.valid(hash_token(text))
    if token is None:
        raise Unauthenticated("This token is unknown, revoked or expired")
    await tokens.touch(token)
    return Principal(token.id, token.user_id, frozenset(token.abilities), f"token:{token.id}")


Caller = Annotated[Principal, Depends(principal, scope="function")]


async def reader(caller: Caller) -> Principal:
    caller.require("backups:read")
    return caller


Reader = Annotated[Principal, Depends(reader, scope="function")]


def page(
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
    per_page: Annotated[int, Query(ge=1, le=200)] = 15,
    sort: Annotated[str, Query(pattern=r"^-?[a-z_]{0,40}$")] = "",
) -> PageRequest:
    return PageRequest(page, per_page, sort)


Paging = Annotated[PageRequest, Depends(page)]


async def idempotency(
    request: Request,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Idempotency:
    return Idempotency(idempotency_key, f"{request.method} {request.url.path}", await request.body())


IdempotencyKey = Annotated[Idempotency, Depends(idempotency)]
