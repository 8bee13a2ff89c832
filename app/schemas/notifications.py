"""Notification channels and deliveries as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from app.schemas.common import Id, Input, Model

EventPattern = Annotated[str, Field(pattern=r"^[a-z_]*\*?(\.[a-z_]*\*?)?$", min_length=1, max_length=64)]
DEFAULT_EVENTS = ["*.failed", "*.partial", "schedule.skipped", "schedule.overdue", "destination.space_low"]


class ChannelIn(Input):
    """`type` webhook: `url` gets a signed POST (Standard Webhooks). `apprise`: `url` is a service in Apprise's
    notation, for example mailtos://…; operators only. `url` may be left out of a PUT: it stays. `events`: names as
    backup.failed, or patterns as restore.* and *.failed."""

    name: str = Field(min_length=1, max_length=255)
    type: Literal["webhook", "apprise"] = "webhook"
    url: SecretStr | None = Field(None, max_length=2000)
    user_id: Id | None = None
    events: list[EventPattern] = Field(DEFAULT_EVENTS, min_length=1, max_length=50)
    is_active: bool = True


class ChannelOut(Model):
    """`shown`: of the URL, scheme and host; the rest of it may be a secret."""

    id: int
    name: str
    type: str
    user_id: int | None
    shown: str
    events: list[str]
    is_active: bool
    created_at: datetime


class NewChannel(ChannelOut):
    """`secret`: what a webhook is signed with; shown once. Null for other types."""

    secret: str | None


class DeliveryOut(Model):
    """`status`: pending until it has arrived (delivered) or was given up (failed). `log`: each attempt, with what the
    other end said."""

    id: int
    uid: str
    channel_id: int
    event: str
    title: str
    text: str
    payload: dict[str, Any]
    status: str
    attempts: int
    log: list[Any]
    created_at: datetime
    next_at: datetime
    delivered_at: datetime | None
