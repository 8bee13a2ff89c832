"""Automatic backups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, now


class BackupSchedule(Base):
    """`domain_id` None: all domains of `user_id`, of everybody when that is None too. `expression`: cron's, in
    `timezone`. `due_at`: the next time; it is started at `starts_at`, somewhat later, so that not all start at once.
    `retention`: of its own backups; None: as their destination has it. `last_good_at`: when the last run was due
    whose backups were all completed. `overdue_since`: when that was found to be too long ago, and told."""

    __tablename__ = "backup_schedules"
    __table_args__ = (Index(None, "is_active", "starts_at"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[int | None] = mapped_column(index=True)
    domain_id: Mapped[int | None] = mapped_column(index=True)
    destination_id: Mapped[int | None]
    copies: Mapped[list[Any]] = mapped_column(default=list)
    retention: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    proof: Mapped[str | None] = mapped_column(String(16))
    type: Mapped[str] = mapped_column(String(16))
    frequency: Mapped[str | None] = mapped_column(String(16))
    schedule_time: Mapped[str | None] = mapped_column(String(8))
    expression: Mapped[str] = mapped_column(String(255))
    timezone: Mapped[str] = mapped_column(String(64))
    jitter_seconds: Mapped[int]
    is_active: Mapped[bool] = mapped_column(default=True)
    due_at: Mapped[datetime]
    starts_at: Mapped[datetime]
    last_run_at: Mapped[datetime | None]
    last_good_at: Mapped[datetime | None]
    overdue_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class ScheduleRun(Base):
    """One time that a schedule was due. `coalesced`: how many times were due since the one before and had no run of
    their own. `cursor`: the last domain that was dealt with; None: all were. `skipped`: per domain, and why.
    `outcome`: how it has ended, once all of its backups have: completed, partial, failed or skipped."""

    __tablename__ = "schedule_runs"
    __table_args__ = (
        UniqueConstraint("schedule_id", "due_at"),
        Index(None, "cursor"),
        Index(None, "outcome"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    schedule_id: Mapped[int] = mapped_column(ForeignKey("backup_schedules.id", ondelete="CASCADE"))
    due_at: Mapped[datetime]
    started_at: Mapped[datetime] = mapped_column(default=now)
    by_hand: Mapped[bool] = mapped_column(default=False)
    coalesced: Mapped[int] = mapped_column(default=0)
    cursor: Mapped[int | None]
    skipped: Mapped[list[Any]] = mapped_column(default=list)
    outcome: Mapped[str | None] = mapped_column(String(16))
    settled_at: Mapped[datetime | None]
