"""Backups as the API takes and gives them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, computed_field, field_validator

from app.idn import to_unicode
from app.schemas.common import Id, Input, Model
from app.schemas.domains import PlainName
from app.sizes import human_size

BackupType = Literal["full", "files", "database", "email"]
Status = Literal["pending", "running", "completed", "partial", "failed", "cancelled", "deleting"]
LABELS = {"full": "Full Backup", "files": "Files Only", "database": "Database Only", "email": "Email Only"}
MAX_METADATA = 1 << 20
MAX_DEPTH = 100  # readers of JSON give up at twice as many


def _depth(value: Any) -> int:
    """How deep lists and objects are nested in what is already a JSON value."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


class CopyIn(Input):
    """A further destination. `required`: the backup is completed only when it is there too."""

    destination_id: Id
    required: bool = True


class BackupIn(Input):
    """`copies`: further destinations, written at the same time from one read of the site; they must be encrypted for
    the same keys. `panel_metadata`: opaque JSON of at most 1 MiB that travels with the backup and is returned by
    restore."""

    domain_id: Id
    type: BackupType = "full"
    name: str | None = Field(None, min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000)
    destination_id: Id | None = None
    copies: list[CopyIn] = Field([], max_length=4)
    panel_metadata: Any = None

    @field_validator("panel_metadata")
    @classmethod
    def not_too_large(cls, value: Any) -> Any:
        try:
            text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise ValueError("must be JSON: without NaN, infinities and halves of characters") from error
        if value is not None and len(text) > MAX_METADATA:
            raise ValueError("must be at most 1 MiB of JSON")
        if _depth(value) > MAX_DEPTH:
            raise ValueError(f"must be nested at most {MAX_DEPTH} deep")
        return value


class BackupUpdate(Input):
    """`locked`: retention leaves the backup alone, and it cannot be deleted."""

    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(None, max_length=10_000)
    locked: bool = False


def _duration(started: datetime | None, ended: datetime | None) -> float | None:
    return None if started is None or ended is None else (ended - started).total_seconds()


class ComponentOut(Model):
    """`proved`, of a database: `listed`: its dump holds all that the catalogue had; `loaded`: and what was stored of
    it was loaded into a scratch database and counted. Null: neither, for the reason in `warnings` or
    `incomplete`. `position`: of a database, where in its server's log the dump is: `file`, `offset` and `gtid` of
    MySQL and MariaDB, `lsn` of PostgreSQL. Unless it is `exact`, it is from right before the snapshot, and what
    follows it in the log may be in the dump already. Null where the account may not ask, or nothing is logged.
    `place`: of what was read in a pod, its `namespace`, `pod`, `container`, `node`, and the `volume` that the folder
    lies on: `kind` (`claim`, `host_path`, `empty_dir`, `image`: none …), `name`, and the `path` on it."""

    number: int
    kind: str
    name: str
    status: str
    plain_size: int | None
    stored_size: int | None
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    proved: str | None
    warnings: list[Any]
    incomplete: list[Any]
    position: dict[str, Any] | None
    place: dict[str, Any] | None

    @computed_field
    def duration_seconds(self) -> float | None:
        return _duration(self.started_at, self.finished_at)


class CopyOut(Model):
    """`state`: `stored`, `failed`, `damaged` (for `error_message`) or `deleting`. `verification`: what proved it:
    `read_back`, the server's `checksum`, the size it tells (`sent`), or only that a scan has `listed` it. `as_of`: it
    is read as the destination was at that time, since a scan of the past has found it."""

    destination_id: Id
    required: bool
    state: str
    manifest_key: str
    verification: str
    error_message: str | None
    as_of: datetime | None


class BackupOut(Model):
    id: int
    uid: str
    domain_id: int | None
    domain_name: str
    user_id: int | None
    destination_id: int
    type: str
    name: str
    description: str | None
    file_path: str | None
    file_size: int | None
    status: Status
    error_message: str | None
    is_automated: bool
    locked: bool
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    components: list[ComponentOut]
    copies: list[CopyOut]

    @computed_field
    def domain_name_unicode(self) -> str:
        return to_unicode(self.domain_name)

    @computed_field
    def type_label(self) -> str:
        return LABELS[self.type]

    @computed_field
    def file_size_human(self) -> str:
        return human_size(self.file_size) if self.file_size else "Unknown"

    @computed_field
    def duration_seconds(self) -> float | None:
        return _duration(self.started_at, self.completed_at)


class Stats(Model):
    total_backups: int
    completed_backups: int
    failed_backups: int
    total_size_bytes: int
    latest_backup: datetime | None
    oldest_backup: datetime | None

    @computed_field
    def total_size_human(self) -> str:
        return human_size(self.total_size_bytes) if self.total_size_bytes else "Unknown"


DatabaseNames = dict[Annotated[str, Field(min_length=1, max_length=255)], PlainName]


class RestoreIn(Input):
    """`clear_existing`: what only the live site has goes (it is kept beside the site for a day); false: it stays.
    What the backup left out on purpose stays in any case. `components`: numbers of the backup's components;
    null = all but a namespace's objects (`kubernetes`): those are made again only when they are named, where they are
    not there, by operators only. `dry_run`: say what would be done, and of files what would stay, go, and is newer
    than the backup. `identity`: an age identity, for archives that only a customer's key opens; it is used for this
    operation and removed at its end. `destination_id`: which copy to use; null = the first that can be read.
    `allow_without_safety_copy`: replace a MySQL database in place (no admin account configured) even when what is
    live cannot be copied first. `allow_empty`: with `clear_existing`, a backup without a single file may replace a
    site that has some. `databases`: name in the backup → the domain's database that it is loaded into; those that are
    not named go to the one of their own name. `create`: where that is not there, it is made with an account of its
    own, by the admin account of a database of the domain on the same kind of server; it is the domain's from then on
    (operators only). Its password is told once: POST /api/operations/{id}/accounts."""

    clear_existing: bool = False
    components: list[Id] | None = Field(None, min_length=1)
    target_domain_id: Id | None = None
    destination_id: Id | None = None
    allow_in_place: bool = False
    allow_without_safety_copy: bool = False
    allow_empty: bool = False
    dry_run: bool = False
    identity: str | None = Field(None, max_length=200, repr=False)
    databases: DatabaseNames = Field({}, max_length=500)
    create: bool = False


class BulkRestoreIn(Input):
    """Each backup into its own domain: domains in parallel, the backups of one domain in the order given. All are
    checked before the first is started. `continue_on_error` false: nothing more is started once one has failed.
    `dry_run`: only the checks. `databases`: of every backup that has one of that name. The rest as for a restore;
    accounts that are made are told by the operations of the single restores."""

    backup_ids: list[Id] = Field(min_length=1, max_length=1000)
    continue_on_error: bool = True
    clear_existing: bool = False
    allow_in_place: bool = False
    allow_without_safety_copy: bool = False
    allow_empty: bool = False
    dry_run: bool = False
    identity: str | None = Field(None, max_length=200, repr=False)
    databases: DatabaseNames = Field({}, max_length=500)
    create: bool = False
