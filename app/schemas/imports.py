"""Imports of foreign backups as the API takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field

from app.idn import to_ascii
from app.schemas.common import Id, Input, Model
from app.schemas.domains import DomainName, PlainName


def _relative(value: str) -> str:
    parts = value.split("/")
    if not value or "\0" in value or value.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError("must be a relative path without '.' and '..'")
    return value


UploadId = Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]


class FileSource(Model):
    """A file in the configured import folder; users name files in their own folder there."""

    type: Literal["file"]
    path: Annotated[str, Field(max_length=4096), AfterValidator(_relative)]


class DestinationSource(Model):
    """An object at a destination, by its key there."""

    type: Literal["destination"]
    destination_id: Id
    key: Annotated[str, Field(max_length=1024), AfterValidator(_relative)]


class UploadSource(Model):
    """What POST /api/backups/uploads has taken."""

    type: Literal["upload"]
    upload_id: UploadId


Source = Annotated[FileSource | DestinationSource | UploadSource, Discriminator("type")]


def _foreign(value: str) -> str:
    """As archives have it; a name that is none here may be one there."""
    try:
        return value if value.isascii() else to_ascii(value)
    except ValueError:
        return value


ForeignName = Annotated[str, Field(max_length=253), AfterValidator(_foreign)]


class DomainMapping(Model):
    """`source`: a domain in the archive; `target`: the domain here that it becomes."""

    source: ForeignName
    target: DomainName


class DatabaseMapping(Model):
    """`source`: a database in the archive; `target`: the database of the target domain that it is loaded into."""

    source: str = Field(max_length=255)
    target: PlainName


def _template(value: str) -> str:
    if "{domain}" not in value or value.replace("{domain}", "").count("{"):
        raise ValueError("must hold {domain} and no other braces")
    return value


Template = Annotated[str, Field(max_length=1024), AfterValidator(_template)]


class NewDomains(Model):
    """Where on this machine domains that are not here yet get their place, as `/srv/sites/{domain}/public_html`.
    Folders that are not there are made, and belong to `system_user`."""

    document_root: Template
    mail_path: Template | None = None
    system_user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$")]


class ImportIn(Input):
    """`format`: null = found out by the content. `domain_name`: the domain here that the archive's main domain
    becomes; needed when the archive names none. `only`: those of the archive's domains that are imported; null = all.
    `user_id`: whose domains may be written. `components`: null = all. Domains and databases go to those of the same
    name unless they are mapped; what has none here is reported.
    `create`: domains that nobody has here are made for `user_id` (an operator's token only); databases never are.

    `continue_on_error` false: all or nothing, nothing is changed unless everything could be prepared. `dry_run`: only
    the inventory and what would be written where. `as_backup`: store what is in the archive as a backup of each
    domain at `destination_id` (null = the default one), and restore nothing. `password_hashes`: the result holds the
    mailboxes' crypt hashes, where the settings permit it. The rest as for a restore."""

    source: Source
    format: Literal["cpanel", "virtualmin", "plesk"] | None = None
    domain_name: DomainName | None = None
    user_id: Id | None = None
    components: list[Literal["files", "database", "mail"]] | None = Field(None, min_length=1)
    only: list[ForeignName] | None = Field(None, min_length=1, max_length=10_000)
    domains: list[DomainMapping] = Field([], max_length=10_000)
    databases: list[DatabaseMapping] = Field([], max_length=10_000)
    create: NewDomains | None = None
    continue_on_error: bool = True
    clear_existing: bool = False
    allow_in_place: bool = False
    allow_without_safety_copy: bool = False
    allow_empty: bool = False
    dry_run: bool = False
    as_backup: bool = False
    password_hashes: bool = False
    destination_id: Id | None = None


class UploadOut(Model):
    """`size` in bytes."""

    upload_id: str
    size: int
    sha256: str


class UploadInfo(Model):
    """`user_id` null: an operator's. It is removed at `expires_at`, unless it is being imported."""

    upload_id: str
    user_id: int | None
    size: int
    created_at: datetime
    expires_at: datetime
