"""Who is told of what, and whether it got there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import NEVER_REUSED, Base, new_uid, now


class NotificationChannel(Base):
    """`user_id` null: an operators' channel, told of everybody. `shown`: of the URL, what is no secret.
    `credentials`: URL and secret, sealed. `events`: names or patterns, for example `backup.failed`, `restore.*`."""

    __tablename__ = "notification_channels"
    __table_args__ = (Index(None, "user_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[int | None]
    shown: Mapped[str] = mapped_column(String(300))
    credentials: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]]
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class NotificationDelivery(Base):
    """Recorded with what it tells of, in one transaction; sent afterwards. `next_at`: when it is tried next. `log`:
    each attempt's time, outcome and answer."""

    __tablename__ = "notification_deliveries"
    __table_args__ = (Index(None, "status", "next_at"), Index(None, "channel_id", "id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(36), unique=True, default=new_uid)
    channel_id: Mapped[int] = mapped_column(ForeignKey("notification_channels.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    log: Mapped[list[Any]] = mapped_column(JSON, default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)
    next_at: Mapped[datetime] = mapped_column(default=now)
    delivered_at: Mapped[datetime | None]
