"""Running and ended jobs, as people see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, new_uid, now

#: In a request: a customer's key, sealed.
IDENTITY = "identity"
_ACTIVE_BACKUP = text("type = 'backup' AND status IN ('pending', 'running')")


class Operation(Base):
    """`uid` is the engine's workflow id. `attempt` counts starts: whoever holds an older one has lost it.

    `domain_uid`: whose turn it waits for, a domain's uid or a name of its own. `parent_id`: which operation began it.
    `journal`: what a restart must know of a restore. `progress`: per component, for people. `priority`: see
    app.services.turns. `server`: whose workers alone can run it. `destinations`: all that it uses; `destination_id`
    is the first. `expected_bytes`: what a backup will store, at all its destinations. `queue`: of the engine, which
    it was handed to; None while it waits for its turn.
    """

    __tablename__ = "operations"
    __table_args__ = (
        Index(
            "uq_operations_active_backup",
            "domain_uid",
            "backup_type",
            unique=True,
            sqlite_where=_ACTIVE_BACKUP,
            postgresql_where=_ACTIVE_BACKUP,
        ),
        Index(None, "user_id", "created_at"),
        Index(None, "status"),
        Index(None, "finished_at"),
        Index(None, "parent_id"),
        Index(None, "schedule_run_id"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(36), unique=True, default=new_uid)
    parent_id: Mapped[int | None]
    schedule_run_id: Mapped[int | None]
    type: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), default="pending")
    user_id: Mapped[int | None]
    domain_id: Mapped[int | None]
    domain_uid: Mapped[str] = mapped_column(String(64))
    backup_id: Mapped[int | None]
    destination_id: Mapped[int | None]
    destinations: Mapped[list[int]] = mapped_column(JSON, default=list)
    priority: Mapped[int] = mapped_column(default=1)
    server: Mapped[str | None] = mapped_column(String(64))
    queue: Mapped[str | None] = mapped_column(String(80))
    backup_type: Mapped[str | None] = mapped_column(String(16))
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    journal: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    bytes_done: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_total: Mapped[int | None] = mapped_column(BigInteger)
    expected_bytes: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    beat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @property
    def lasting_request(self) -> dict[str, Any]:
        """Without a customer's key, which is for nobody once it has ended."""
        return {name: value for name, value in self.request.items() if name != IDENTITY}

    @property
    def queued(self) -> bool:
        return self.queue is not None


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("token_id", "route", "key"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    token_id: Mapped[int]
    route: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(255))
    body_sha256: Mapped[str] = mapped_column(String(64))
    operation_id: Mapped[int] = mapped_column(ForeignKey("operations.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=now)
