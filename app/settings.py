"""Settings from the environment: LIBERU_<AREA>__<NAME>, for example LIBERU_SERVER__PORT=8000."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Of a machine that sites run on, as domains and workers name it.
SERVER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: A user or a group, by name or by number.
Account = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$", coerce_numbers_to_str=True)]


class ServerSettings(BaseModel):
    """Requests a minute, 0: no limit: of one token from one address, of users and of operators, and of an address
    with no valid token. `max_body`: bytes of a request's body, uploads apart. `cors_origins`: of pages elsewhere
    whose scripts may call the API.

    `trusted_proxies`: networks of the proxies whose X-Forwarded-For is believed. `connections`: at once, fewer where
    the limit of open files says so; `connections_per_address`: of one client that is no trusted proxy, by default
    half of them. `head_seconds`: for a request's head; `slow_seconds`: over so long the rate of a request's body and
    of how an answer is taken is looked at. `grace_seconds`: from SIGTERM to the end of the process, whatever it is
    at. `streams`: of events at once, `streams_per_token`: of one token."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    trusted_proxies: list[IPv4Network | IPv6Network] = []
    connections: int = Field(10_000, ge=16)
    connections_per_address: int | None = Field(None, ge=8)
    head_seconds: float = Field(10, gt=0)
    slow_seconds: float = Field(20, gt=0)
    grace_seconds: float = Field(20, ge=2)
    streams: int = Field(1000, ge=1)
    streams_per_token: int = Field(50, ge=1)
    user_requests_per_minute: int = Field(60, ge=0)
    operator_requests_per_minute: int = Field(0, ge=0)
    failures_per_minute: int = Field(60, ge=0)
    max_body: int = Field(4 << 20, ge=1 << 16)
    cors_origins: list[str] = []


class JwtSettings(BaseModel):
    """The panel's tokens; accepted when `issuer` is set. Keys: those published at `jwks_url`, or `secret` (at least
    32 characters) for HS256. `algorithm` is never taken from a token. `leeway_seconds`: clocks may differ by so much.
    Claims: `sub`, `exp`, `aud`, `user_claim` (a number) or `operator: true`, `abilities_claim` (a list, or words).
    `allow_private`: the JWKS may be at a private address."""

    issuer: str | None = None
    audience: str = "liberu-backup"
    algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = "RS256"
    jwks_url: str | None = Field(None, pattern=r"^https?://")
    secret: SecretStr | None = Field(None, min_length=32)
    leeway_seconds: int = Field(30, ge=0, le=300)
    user_claim: str = "user_id"
    abilities_claim: str = "abilities"
    allow_private: bool = False

    @model_validator(mode="after")
    def one_kind_of_key(self) -> Self:
        if self.issuer is None:
            return self
        if self.algorithm == "HS256" and (self.secret is None or self.jwks_url is not None):
            raise ValueError("HS256 needs a secret, and no jwks_url")
        if self.algorithm != "HS256" and (self.jwks_url is None or self.secret is not None):
            raise ValueError(f"{self.algorithm} needs a jwks_url, and no secret")
        return self


class AuditSettings(BaseModel):
    """`days`: how long events are kept."""

    days: int = Field(400, ge=1)


class DatabaseSettings(BaseModel):
    """`url` None: SQLite in the data folder. `engine_url`: the job engine's own database. Both may hold a
    password."""

    url: SecretStr | None = None
    engine_url: SecretStr | None = None


class SitesSettings(BaseModel):
    """What sites of this machine may use.

    `roots`: folders below which document roots and mail folders must lie. `system_users`: users with an id
    below 1000 that a site may belong to. `restore_owners`, `restore_groups`: other users and groups that a restore
    may give files to, by name or by number; a name is looked up where the site runs, and one that is not known there
    is not in force there. `read_as`: `system_user` reads a site's files as its own user (for NFS
    with root_squash).
    """

    roots: list[Path] = [Path("/home"), Path("/var/www"), Path("/srv"), Path("/var/mail"), Path("/var/vmail")]
    system_users: list[str] = []
    restore_owners: list[Account] = []
    restore_groups: list[Account] = []
    mail_user: str | None = None
    read_as: Literal["service", "system_user"] = "service"


class DeploymentSettings(BaseModel):
    """`docker_url`: the engine whose containers sites run in, unix:///path or tcp://host:port. `kubeconfig`: of the
    clusters whose pods sites run in, one file or several with `:` between them; a domain may name a context, else the
    current one (of the last file) is meant. None: the cluster that this service runs in, if any. `rollout_seconds`:
    how long an operation waits for a pod that is ready, while there are others. `silence_seconds`: after so long
    without any sign of life a command over SSH, in a container or in a pod is given up."""

    silence_seconds: float = Field(120, ge=10)
    kubeconfig: Path | None = None
    rollout_seconds: float = Field(120, ge=0, le=3600)
    docker_url: str = Field("unix:///var/run/docker.sock", pattern=r"^(unix:///|tcp://)[^\s]+$")


class JobSettings(BaseModel):
    """`concurrency`: operations at once; `urgent`: restores at once beside these; `parents`: bulk restores at once,
    which start operations; `components`: parts of one backup at once. `server`: run operations of sites on this
    server alone, whose domains name it. `polling_seconds`: how often each queue is asked; by default 0.2, with
    PostgreSQL 0.5; an operation waits half of that on average. `dispatch_seconds`: how often it is looked for
    operations that another process has recorded. `reserve_bytes`: a backup does not start when less than this would
    be left at its destination; `data_reserve_bytes`: backups and imports wait while the data folder has less, if the
    databases are there. `part_tries`: how often a part of a backup or restore is begun in all whose stream is cut;
    `part_wait_seconds`: for how long in all it is waited for its site to be there again. `reconcile_seconds`: how
    often it is looked for operations that were recorded and never queued, or that nobody runs any more.

    With PostgreSQL: `role`: what this process does, requests, operations or both. `lease_seconds`: how long after its
    last sign of life a process' operations are taken over by another one.
    """

    role: Literal["both", "api", "worker"] = "both"
    lease_seconds: float = Field(30, ge=1)
    reconcile_seconds: float = Field(60, gt=0)

    server: str | None = Field(None, pattern=SERVER_NAME)
    concurrency: int = Field(2, ge=1)
    urgent: int = Field(2, ge=0)
    dispatch_seconds: float = Field(1, gt=0)
    parents: int = Field(4, ge=1)
    components: int = Field(3, ge=1)
    max_attempts: int = Field(5, ge=1)
    part_tries: int = Field(3, ge=1, le=100)
    part_wait_seconds: float = Field(600, ge=0)
    reserve_bytes: int = Field(64 << 20, ge=0)
    data_reserve_bytes: int = Field(16 << 20, ge=0)
    polling_seconds: float | None = Field(None, gt=0)


class ProofSettings(BaseModel):
    """Whether the stored dump of a database is loaded into a scratch database. `load`: where neither schedule, domain
    nor destination says, and an admin account is configured. Not of a dump of more than `max_bytes`, or when less
    than `free_bytes` would stay free at its server, for which three times the dump is reckoned; where that cannot be
    told, not of one of more than `unknown_room_bytes`. `seconds`: for one; `wait_seconds`: for its turn at a server,
    which loads one at a time."""

    load: bool = True
    max_bytes: int = Field(50 << 30, ge=0)
    free_bytes: int = Field(5 << 30, ge=0)
    unknown_room_bytes: int = Field(1 << 30, ge=0)
    seconds: float = Field(3600, gt=0)
    wait_seconds: float = Field(600, ge=0)


class RestoreSettings(BaseModel):
    """`keep_replaced_hours`: how long what a restore with clear_existing has replaced is kept beside the site, 0: not
    at all; as long as `keep_free_bytes` stay free there. `tidy_seconds`: how often it is looked for what restores
    have left to be finished, undone or removed."""

    keep_replaced_hours: float = Field(24, ge=0)
    keep_free_bytes: int = Field(1 << 30, ge=0)
    tidy_seconds: float = Field(60, gt=0)


class QuotaSettings(BaseModel):
    """Of each user, where PUT /api/quotas/{user_id} has set none; None: no limit."""

    stored_bytes: int | None = Field(None, ge=0)
    on_demand_backups: int | None = Field(None, ge=0)
    operations: int | None = Field(None, ge=1)


class ScheduleSettings(BaseModel):
    """`tick_seconds`: how often it is asked what is due. `overdue_hours`: how long after it was due a run must have
    become a good backup; `overdue_seconds`: how often that is looked at."""

    tick_seconds: float = Field(5, gt=0)
    overdue_seconds: float = Field(300, gt=0)
    overdue_hours: float = Field(6, gt=0)


class NotificationSettings(BaseModel):
    """`allow_private`: operators' webhooks may go to private networks and to this machine; tenants' never do.
    `seconds`: how often it is looked for what is due; `timeout_seconds`: of one attempt. `space_low_bytes`: a
    destination with less is told of."""

    allow_private: bool = False
    seconds: float = Field(5, gt=0)
    timeout_seconds: float = Field(15, gt=0)
    space_low_bytes: int = Field(10 << 30, ge=0)


class HousekeepingSettings(BaseModel):
    """`seconds`: how often. Kept for days: `operations` that have ended, with runs of schedules, and `deliveries` of
    notifications. `sweep_days`: how often leftovers are looked for at each destination, 0: never; those younger than
    `sweep_grace_hours` are left alone."""

    seconds: float = Field(3600, gt=0)
    operations_days: int = Field(90, ge=1)
    deliveries_days: int = Field(30, ge=1)
    sweep_days: int = Field(7, ge=0)
    sweep_grace_hours: int = Field(24, ge=1)


class ArchiveSettings(BaseModel):
    level: int = Field(3, ge=1, le=19)


class ImportSettings(BaseModel):
    """`folder`: where foreign backups may lie; a user's own are in a folder below it that is called by their number.
    The limits are of one import, over all that is nested in its archive; `cpu_seconds` of processor time are allowed
    beside a second for every 5 MiB of it. `password_hashes`: an import's result may
    hold the mailboxes' crypt hashes when its caller asks for them; they stay in the operation. `reserve_bytes`: stay
    free in the data folder. `upload_bytes`: of one upload; `uploads_bytes_per_user`, `uploads_bytes`: of all of a
    user, of everybody, that have not been imported; they are kept for `upload_hours`."""

    password_hashes: bool = False
    folder: Path | None = None
    max_bytes: int = Field(1 << 40, ge=1 << 20)
    max_members: int = Field(20_000_000, ge=1)
    max_ratio: int = Field(400, ge=2)
    max_depth: int = Field(3, ge=1)
    max_hours: float = Field(48, gt=0)
    cpu_seconds: float = Field(120, gt=0)
    upload_bytes: int = Field(100 << 30, ge=1 << 20)
    uploads_bytes_per_user: int = Field(200 << 30, ge=1 << 20)
    uploads_bytes: int = Field(1 << 40, ge=1 << 20)
    upload_hours: float = Field(24, gt=0)
    reserve_bytes: int = Field(1 << 30, ge=0)


class StorageSettings(BaseModel):
    """`resume_seconds`: how long a broken line to a destination is tried again. `allow_link_local`: destinations may
    have link-local addresses, where clouds have their metadata services; `allow_private`: tenants' may have addresses
    of private networks and of this machine, as operators' may anyway. `buffer_bytes`: what all transfers together
    keep in memory until the other end has confirmed it. `slow_bytes_per_second`: an operation fails whose destination
    moves less over `slow_seconds` of waiting for it, 0: never; tenants cannot set a lower `bandwidth`."""

    slow_bytes_per_second: int = Field(96 << 10, ge=0)
    slow_seconds: float = Field(300, gt=0)
    resume_seconds: float = Field(120, ge=0)
    buffer_bytes: int = Field(192 << 20, ge=16 << 20)
    allow_link_local: bool = False
    allow_private: bool = False


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LIBERU_", env_nested_delimiter="__")

    data: Path = Path("data")
    keys: Path | None = None
    master_key: SecretStr | None = None
    server: ServerSettings = ServerSettings()
    jwt: JwtSettings = JwtSettings()
    audit: AuditSettings = AuditSettings()
    database: DatabaseSettings = DatabaseSettings()
    sites: SitesSettings = SitesSettings()
    deployments: DeploymentSettings = DeploymentSettings()
    jobs: JobSettings = JobSettings()
    schedules: ScheduleSettings = ScheduleSettings()
    restores: RestoreSettings = RestoreSettings()
    proof: ProofSettings = ProofSettings()
    quotas: QuotaSettings = QuotaSettings()
    housekeeping: HousekeepingSettings = HousekeepingSettings()
    notifications: NotificationSettings = NotificationSettings()
    archives: ArchiveSettings = ArchiveSettings()
    storage: StorageSettings = StorageSettings()
    imports: ImportSettings = ImportSettings()

    @property
    def master_keys(self) -> str | None:
        """The text of `master_key`; None: they are in a file."""
        return _text(self.master_key)

    @property
    def keys_folder(self) -> Path:
        """`keys`, else in the data folder. Processes that share a database share their keys."""
        return (self.keys or self.data / "keys").absolute()

    @property
    def replicated(self) -> bool:
        """Whether other processes may use the same database."""
        return self.database_url.startswith("postgresql") and self.engine_url.startswith("postgresql")

    @property
    def own_databases(self) -> list[str]:
        """Files in the data folder."""
        urls = {"liberu.db": self.database.url, "engine.db": self.database.engine_url}
        return [name for name, url in urls.items() if url is None]

    @property
    def database_url(self) -> str:
        return _text(self.database.url) or f"sqlite+aiosqlite:///{self.data.absolute()}/liberu.db"

    @property
    def engine_url(self) -> str:
        return _text(self.database.engine_url) or f"sqlite:///{self.data.absolute()}/engine.db"


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
