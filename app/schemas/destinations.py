"""Destinations as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from app.schemas.common import Model
from app.storage.config import DestinationType, LocalConfiguration


class DestinationIn(Model):
    """`encrypt` null: off for local. `own_key` false: only `recipients` can open what is stored here."""

    name: str = Field(min_length=1, max_length=255)
    type: DestinationType = "local"
    configuration: LocalConfiguration
    user_id: int | None = Field(None, ge=1)
    is_default: bool = False
    is_active: bool = True
    retention_days: int = Field(30, ge=1, le=365)
    description: str | None = Field(None, max_length=10_000)
    encrypt: bool | None = None
    recipients: list[str] = Field([], max_length=20)
    own_key: bool = True


class DestinationOut(Model):
    id: int
    name: str
    type: str
    configuration: dict[str, Any]
    user_id: int | None
    is_default: bool
    is_active: bool
    retention_days: int
    description: str | None
    encrypt: bool
    recipients: list[str]
    own_key: bool
    created_at: datetime
    updated_at: datetime


class ConnectionTest(Model):
    connected: bool
    checks: list[str]
    message: str
