"""Destinations as the API takes and gives them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Discriminator, Field, Tag, field_validator

from app.schemas.common import Id, Input, Model, Proof
from app.storage.config import FtpConfiguration, LocalConfiguration, S3Configuration, SftpConfiguration


class Retention(Model):
    """What is kept beyond `retention_days`: the newest so many of each type, and the newest of each of so many days,
    weeks, months, years. The newest good copy of each component is never removed."""

    last: int = Field(0, ge=0, le=10_000)
    daily: int = Field(0, ge=0, le=1000)
    weekly: int = Field(0, ge=0, le=1000)
    monthly: int = Field(0, ge=0, le=1000)
    yearly: int = Field(0, ge=0, le=100)


class CleanupIn(Input):
    dry_run: bool = False


class PrepareIn(Input):
    """`accept_missing_backups`: take the place even where none of the backups that are recorded there is found. They
    are lost then: the next verification finds them damaged."""

    accept_missing_backups: bool = False


class SweepIn(Input):
    """`dry_run`: only say what would be removed. What is younger than `grace_hours` is left alone. `hidden`: remove
    for good also whole backups that are there as old versions only, except those that are listed here; whoever may
    need them after an attack scans the past first."""

    dry_run: bool = False
    grace_hours: int = Field(24, ge=1, le=24 * 365)
    hidden: bool = False


class DestinationBase(Input):
    """`encrypt` null: on, but off for local. `own_key` false: only `recipients` can open what is stored here.
    `bandwidth`: bytes per second in each direction, and `transfers` at once, both of each process of the
    service; `operations`: at once, over all processes. Null: no limit. `proof`: as for a schedule; a schedule's and a
    domain's have precedence. It counts at the first of a backup's destinations, where what was stored is read."""

    name: str = Field(min_length=1, max_length=255)
    user_id: Id | None = None
    is_default: bool = False
    is_active: bool = True
    retention_days: int = Field(30, ge=1, le=365)
    retention: Retention = Retention()
    bandwidth: int | None = Field(None, ge=1 << 16)
    transfers: int | None = Field(None, ge=1, le=100)
    operations: int | None = Field(None, ge=1, le=1000)
    proof: Proof | None = None
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


class FtpDestinationIn(DestinationBase):
    type: Literal["ftp"]
    configuration: FtpConfiguration


class S3DestinationIn(DestinationBase):
    type: Literal["s3"]
    configuration: S3Configuration


def _type_of(value: Any) -> str:
    found = value.get("type", "local") if isinstance(value, dict) else getattr(value, "type", "local")
    return str(found)


DestinationIn = Annotated[
    Annotated[LocalDestinationIn, Tag("local")]
    | Annotated[SftpDestinationIn, Tag("sftp")]
    | Annotated[FtpDestinationIn, Tag("ftp")]
    | Annotated[S3DestinationIn, Tag("s3")],
    Discriminator(_type_of),
]


class DestinationOut(Model):
    """`configuration`: empty for a tenant who looks at a shared one, whose place is the operators' business.
    `secrets`: the names of the secrets that are set; their values are never shown. `free_bytes`: as it was at
    `free_at`, where that can be known. `prepared_at`: since when its marker must lie there; null: its first use
    writes it."""

    id: int
    uid: str
    name: str
    type: str
    configuration: dict[str, Any]
    secrets: list[str]
    user_id: int | None
    is_default: bool
    is_active: bool
    retention_days: int
    retention: Retention
    bandwidth: int | None
    transfers: int | None
    operations: int | None
    free_bytes: int | None
    free_at: datetime | None
    prepared_at: datetime | None
    proof: Proof | None
    description: str | None
    encrypt: bool
    recipients: list[str]
    own_key: bool
    created_at: datetime
    updated_at: datetime


class Check(Model):
    """One step of a connection test. `message`: what went wrong and what to do; of `connections`, how many."""

    name: str
    passed: bool
    message: str | None = None


class ConnectionTest(Model):
    connected: bool
    checks: list[Check]
    message: str


class ScanIn(Input):
    """`at`: list what was there at that time, where the destination keeps old versions (S3); null: what is there."""

    at: AwareDatetime | None = None

    @field_validator("at")
    @classmethod
    def past(cls, value: datetime | None) -> datetime | None:
        if value is not None and value > datetime.now(UTC):
            raise ValueError("must not be in the future")
        return value


class Usage(Model):
    """What lies at a destination below our prefix, and the space left; sizes in bytes, null where it cannot tell.

    `old_versions`: what was deleted or replaced and still takes `old_version_bytes` beside `bytes`; null: we may not
    see them. `hidden_backups`: whose manifest is there as an old version only: deleted, and a scan of the past would
    find them."""

    objects: int
    bytes: int
    backups: int
    old_versions: int | None
    old_version_bytes: int | None
    hidden_backups: int | None
    free_bytes: int | None
