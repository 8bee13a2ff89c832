"""Processes that run operations."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, now


class ExecutorLease(Base):
    """A process that may run operations until `expires_at`, by the database's clock, unless it renews that. What it
    takes at once: see app.services.turns.Slots; of sites on `server` alone, if set."""

    __tablename__ = "executor_leases"

    executor_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    expires_at: Mapped[datetime]
    started_at: Mapped[datetime] = mapped_column(default=now)
    server: Mapped[str | None] = mapped_column(String(64))
    operations: Mapped[int] = mapped_column(default=0)
    urgent: Mapped[int] = mapped_column(default=0)
    parents: Mapped[int] = mapped_column(default=0)


class Installation(Base):
    """Whose database this is: one row, the installation's id, which belongs to its keys."""

    __tablename__ = "installations"

    installation_id: Mapped[str] = mapped_column(String(64), primary_key=True)
