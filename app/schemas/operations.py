"""Operations, tokens and audit events as the API gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from app.schemas.common import Id, Input, Model, Moment
from app.security.tokens import Ability


class OperationOut(Model):
    """`priority`: 0 somebody waits for it, 1 somebody asked for it, 2 automatic. `server`: whose workers alone can
    run it. `queued`: it was its turn; it runs as soon as a worker is free. `progress`: bytes and state per component,
    while a pod is waited for, `waits_for`, and of a part that was cut off, `tries`; `bytes_total` is an estimate from
    the last backup, if any."""

    id: int
    uid: str
    parent_id: int | None
    type: str
    status: str
    user_id: int | None
    domain_id: int | None
    backup_id: int | None
    destination_id: int | None
    priority: int
    server: str | None
    queued: bool
    result: dict[str, Any]
    progress: dict[str, Any]
    bytes_done: int
    bytes_total: int | None
    attempt: int
    cancel_requested: bool
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Ticket(Model):
    ticket: str
    expires_at: datetime


class AccountOut(Model):
    """Of a database that a restore has made. `password` is told once and never again."""

    engine: str
    database: str
    host: str | None
    port: int | None
    socket: str | None
    username: str
    password: str


class Accounts(Model):
    accounts: list[AccountOut]


class TokenIn(Input):
    name: str = Field(min_length=1, max_length=255)
    abilities: list[Ability] = Field(min_length=1)
    user_id: Id | None = None
    expires_at: Moment | None = None


class TokenOut(Model):
    id: int
    name: str
    abilities: list[str]
    user_id: int | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewToken(TokenOut):
    """`token` is shown once and never again."""

    token: str


class AuditEventOut(Model):
    """`number`, `previous`, `hash`: its place in the chain. `actor`: token:ID, jwt:SUBJECT, or service. `detail`:
    what was changed, before and after, without secrets."""

    id: int
    at: datetime
    number: int | None
    previous: str | None
    hash: str | None
    actor: str | None
    token_id: int | None
    user_id: int | None
    address: str | None
    request_id: str | None
    action: str
    target: str | None
    outcome: str
    detail: dict[str, Any]
