"""Recorded backups, their parts and their copies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db.base import NEVER_REUSED, Base, new_uid, now


class Backup(Base):
    """`file_path` and `file_size` describe the primary copy: the manifest's key, the sum of stored bytes.

    `schedule_id`: which schedule has made it. `locked`: retention leaves it alone, and it cannot be deleted.
    """

    __tablename__ = "backups"
    __table_args__ = (
        Index(None, "user_id", "created_at"),
        Index(None, "domain_id", "created_at"),
        Index(None, "status"),
        NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(36), unique=True, default=new_uid)
    domain_id: Mapped[int | None] = mapped_column(ForeignKey("domains.id", ondelete="SET NULL"))
    domain_uid: Mapped[str] = mapped_column(String(36))
    domain_name: Mapped[str] = mapped_column(String(253))
    user_id: Mapped[int | None]
    destination_id: Mapped[int] = mapped_column(ForeignKey("backup_destinations.id"))
    type: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    file_path: Mapped[str | None] = mapped_column(Text)
    file_size: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16), default="pending")
    error_message: Mapped[str | None] = mapped_column(Text)
    schedule_id: Mapped[int | None] = mapped_column(index=True)
    is_automated: Mapped[bool] = mapped_column(default=False)
    locked: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    components: Mapped[list[BackupComponent]] = relationship(
        lazy="raise", cascade="all, delete-orphan", order_by="BackupComponent.number"
    )
    copies: Mapped[list[BackupCopy]] = relationship(
        lazy="raise", cascade="all, delete-orphan", order_by="BackupCopy.id"
    )

    @property
    def stored_copies(self) -> list[BackupCopy]:
        """Where it can be read, the primary first, and last what a verification has found damaged: another part of
        it may be whole."""
        return [copy for state in ("stored", "damaged") for copy in self.copies if copy.state == state]


class BackupComponent(Base):
    """Of a database: `proved`: `listed` (its dump holds what the catalogue has), `loaded` (and was loaded).
    `position`: where in its server's log the dump is; see app.components.base.POSITION. `place`: which pod and volume
    it was read from; see PLACE there."""

    __tablename__ = "backup_components"
    __table_args__ = (Index(None, "backup_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    backup_id: Mapped[int] = mapped_column(ForeignKey("backups.id", ondelete="CASCADE"))
    number: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    plain_size: Mapped[int | None] = mapped_column(BigInteger)
    stored_size: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    proved: Mapped[str | None] = mapped_column(String(16))
    warnings: Mapped[list[Any]]
    incomplete: Mapped[list[Any]]
    position: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    place: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class BackupCopy(Base):
    """`state`: stored, failed, damaged (for `error_message`) or deleting. `required`: the backup is not completed
    without it. `verification`: how far it is known to be whole, see StorageDriver. `as_of`: it is read as the
    destination was at that time, from the versions that it keeps; null: as it is now."""

    __tablename__ = "backup_copies"
    __table_args__ = (Index(None, "backup_id"), Index(None, "destination_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    backup_id: Mapped[int] = mapped_column(ForeignKey("backups.id", ondelete="CASCADE"))
    destination_id: Mapped[int] = mapped_column(ForeignKey("backup_destinations.id"))
    required: Mapped[bool] = mapped_column(default=True)
    state: Mapped[str] = mapped_column(String(16))
    manifest_key: Mapped[str] = mapped_column(Text)
    verification: Mapped[str] = mapped_column(String(16))
    as_of: Mapped[datetime | None]
    error_message: Mapped[str | None] = mapped_column(Text)
