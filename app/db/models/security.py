"""Who may do what, and who did."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, now


class ApiToken(Base):
    """`token_sha256`: the token itself is shown once and never stored. `user_id` null: an operator's."""

    __tablename__ = "api_tokens"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    abilities: Mapped[list[str]]
    user_id: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEvent(Base):
    """`number`, `previous`, `hash`: its place in the chain, see AuditService; null in events from before there was
    one. `detail`: what was changed, without secrets."""

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "at"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    number: Mapped[int | None] = mapped_column(unique=True)
    previous: Mapped[str | None] = mapped_column(String(64))
    hash: Mapped[str | None] = mapped_column(String(64))
    actor: Mapped[str | None] = mapped_column(String(255))
    token_id: Mapped[int | None]
    user_id: Mapped[int | None]
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(255))
    target: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]


class AuditHead(Base):
    """One row: the last event's number and hash, where the chain begins, and an HMAC over these."""

    __tablename__ = "audit_heads"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int]
    hash: Mapped[str] = mapped_column(String(64))
    first_number: Mapped[int]
    first_previous: Mapped[str] = mapped_column(String(64))
    seal: Mapped[str] = mapped_column(String(64))


class SseTicket(Base):
    """Opens one operation's event stream once: a browser's EventSource sends no header. `resumes`: opens it again."""

    __tablename__ = "sse_tickets"
    __table_args__ = (NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    operation_id: Mapped[int]
    resumes: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime]
