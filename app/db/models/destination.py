"""Configured places for backups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, new_uid, now


class Destination(Base):
    """`user_id` null: shared by all. `encrypt`: age for what is stored here, to `recipients` beside our own key.

    `retention`: what is kept beyond `retention_days`. `credentials`: what of the configuration is secret, sealed
    under the master key. `bandwidth`: bytes per second in each direction, `transfers`: at once, both of each process;
    `operations`: at once, over all processes; null: no limit. `free_bytes`: as it was at `free_at`, where that can be
    known. `space_low_since`: when it was found to be too little, and told. `prepared_at`: when its marker, which has
    `uid` in its name, was first seen or written there: from then on it is no destination without it.
    """

    __tablename__ = "backup_destinations"
    __table_args__ = (
        Index(
            "uq_backup_destinations_default",
            "is_default",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(36), unique=True, default=new_uid)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    type: Mapped[str] = mapped_column(String(16))
    configuration: Mapped[dict[str, Any]]
    credentials: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[int | None]
    is_default: Mapped[bool] = mapped_column(default=False)
    is_active: Mapped[bool] = mapped_column(default=True)
    retention_days: Mapped[int] = mapped_column(default=30)
    retention: Mapped[dict[str, Any]] = mapped_column(default=dict)
    bandwidth: Mapped[int | None] = mapped_column(BigInteger)
    transfers: Mapped[int | None]
    operations: Mapped[int | None]
    proof: Mapped[str | None] = mapped_column(String(16))
    description: Mapped[str | None] = mapped_column(Text)
    encrypt: Mapped[bool] = mapped_column(default=False)
    recipients: Mapped[list[str]]
    own_key: Mapped[bool] = mapped_column(default=True)
    free_bytes: Mapped[int | None] = mapped_column(BigInteger)
    free_at: Mapped[datetime | None]
    space_low_since: Mapped[datetime | None]
    prepared_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
