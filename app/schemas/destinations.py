"""Destinations as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from app.schemas.common import Model
from app.storage.config import LocalConfiguration, SftpConfiguration


class DestinationBase(Model):
    """`encrypt` null: on, but off for local. `own_key` false: only `recipients` can open what is stored here."""

    name: str = Field(min_length=1, max_length=255)
    user_id: int | None = Field(None, ge=1)
    is_default: bool = False
    is_active: bool = True
    retention_days: int = Field(30, ge=1, le=365)
    description: str | None = Field(None, max_length=10_000)
    encrypt: bool | None = None
    recipients: list[str] = Field([], max_length=20)
    own_key: bool = True


class LocalDestinationIn(DestinationBase):
    type: Literal["local"] = "local"
    configuration: LocalConfiguration


class SftpDestinationIn(DestinationBase):
    type: Literal["sftp"]
    configuration: SftpConfiguration


def _type_of(value: Any) -> str:
    found = value.get("type", "local") if isinstance(value, dict) else getattr(value, "type", "local")
    return str(found)


DestinationIn = Annotated[
    Annotated[LocalDestinationIn, Tag("local")] | Annotated[SftpDestinationIn, Tag("sftp")],
    Discriminator(_type_of),
]


class DestinationOut(Model):
    """`secrets`: the names of the secrets that are set; their values are never shown."""

    id: int
    name: str
    type: str
    configuration: dict[str, Any]
    secrets: list[str]
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


class Check(Model):
    """One step of a connection test. `message`: what went wrong and what to do."""

    name: str
    passed: bool
    message: str | None = None


class ConnectionTest(Model):
    connected: bool
    checks: list[Check]
    message: str


class Usage(Model):
    """What lies at a destination below our prefix, and the space left; sizes in bytes, null where it cannot tell."""

    objects: int
    bytes: int
    backups: int
    free_bytes: int | None
