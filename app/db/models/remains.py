"""What ended restores have left to do where a site runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, now


class RestoreRemains(Base):
    """Of one part of one operation: a tree or a database that was replaced, or a proof's scratch database, which is
    removed at `due_at`; or a change that stopped half-way (`unsettled`) and must be finished or undone. `journal`:
    the part's own, all that is needed. Gone once it is done; tried again until then."""

    __tablename__ = "restore_remains"
    __table_args__ = (
        UniqueConstraint("operation_uid", "part"),
        Index(None, "domain_id", "due_at"),
        Index(None, "due_at"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    operation_uid: Mapped[str] = mapped_column(String(36))
    part: Mapped[str] = mapped_column(String(16))
    domain_id: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text)
    journal: Mapped[dict[str, Any]]
    unsettled: Mapped[bool] = mapped_column(default=False)
    due_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ProofTurn(Base):
    """Whoever proves a dump at a database server, one at a time. `place`: the server, a hash. Of an attempt that does
    not run any more it means nothing."""

    __tablename__ = "proof_turns"

    place: Mapped[str] = mapped_column(String(64), primary_key=True)
    operation_uid: Mapped[str] = mapped_column(String(36))
    attempt: Mapped[int]
    part: Mapped[str] = mapped_column(String(16))
    since: Mapped[datetime] = mapped_column(default=now)
