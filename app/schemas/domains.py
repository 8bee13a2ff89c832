"""Domains as the API takes and gives them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, SecretStr, field_validator, model_validator

from app.idn import address_to_ascii, to_ascii
from app.schemas.common import Id, Input, Model, Proof
from app.settings import SERVER_NAME

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?:[a-z]{{2,63}}|xn--[a-z0-9-]{{0,58}}[a-z0-9])")
_IDENTIFIER_LIMIT = 64


def _domain_name(value: str) -> str:
    """In its one form, whichever was given: see app.idn."""
    value = to_ascii(value)
    if len(value) > 253 or not _DOMAIN.fullmatch(value):
        raise ValueError("must be a domain name of at least two labels, such as shop.example.com or пример.рф")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value or "\n" in value or ".." in value.split("/"):
        raise ValueError("must be an absolute path without '..'")
    return "/" + "/".join(part for part in value.split("/") if part not in ("", "."))


def _plain_name(value: str) -> str:
    if not value or len(value.encode()) > _IDENTIFIER_LIMIT or any(ord(c) < 32 or c == "\x7f" for c in value):
        raise ValueError("must be 1 to 64 bytes without control characters")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]-]{1,253}", value) or value.startswith("-"):
        raise ValueError("must be a host name or an address")
    return value


DomainName = Annotated[str, AfterValidator(_domain_name)]
AbsolutePath = Annotated[str, Field(max_length=4096), AfterValidator(_absolute)]
PlainName = Annotated[str, AfterValidator(_plain_name)]
Host = Annotated[str, AfterValidator(_host)]


ContainerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$")]


ServerName = Annotated[str, Field(pattern=SERVER_NAME)]


class AutoDeployment(Model):
    """Found out at each backup, on `server`; see POST /api/domains/{id}/detect-deployment."""

    type: Literal["auto"] = "auto"
    server: ServerName | None = None


class StandaloneDeployment(Model):
    """The machine that a worker runs on: the one whose LIBERU_JOBS__SERVER is `server`. Null: any that has none."""

    type: Literal["standalone"]
    server: ServerName | None = None


class DockerDeployment(Model):
    """Containers by name. What is left out is looked for: by the label `liberu.domain` (and `liberu.role`), in the
    compose `project`, or by the panel's names (`<domain>_web`, `<domain>_database`, `dovecot`). `server`: as for
    standalone."""

    type: Literal["docker"]
    server: ServerName | None = None
    container: ContainerName | None = None
    database_container: ContainerName | None = None
    mail_container: ContainerName | None = None
    project: ContainerName | None = None


class SshDeployment(Model):
    """A server. `host_key`: pinned at the first connection when it is left out. `sudo`: become root by `sudo -n`.
    Secrets are write-only; left out on update they stay, while host, port and user are the same."""

    type: Literal["ssh"]
    host: Host
    port: int = Field(22, ge=1, le=65535)
    username: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    password: SecretStr | None = Field(None, max_length=1024)
    private_key: SecretStr | None = Field(None, max_length=100_000)
    passphrase: SecretStr | None = Field(None, max_length=1024)
    host_key: str | None = Field(None, pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/=]+$", max_length=4096)
    sudo: bool = False


_DNS = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_KEY, _VALUE = r"[A-Za-z0-9_./-]+", r"[A-Za-z0-9_.-]*"
_TERM = rf"(!?{_KEY}|{_KEY} ?(=|==|!=) ?{_VALUE}|{_KEY} (in|notin) \({_VALUE}(, ?{_VALUE})*\))"
_SELECTOR = rf"^{_TERM}(, ?{_TERM})*$"
_LABEL_VALUE = rf"^{_KEY}={_VALUE}$"
KubernetesName = Annotated[str, Field(pattern=_DNS, max_length=253)]
Selector = Annotated[str, Field(pattern=_SELECTOR, max_length=1000)]


class KubernetesDeployment(Model):
    """Pods by namespace and label selector; what is left out is where the panel puts a domain:
    `hosting-<name with dashes>`, `app=<name>`, `app=<name>-db`, `app=dovecot`, the Secret `<name>-credentials`.
    `context`: of the service's kubeconfig, where it has several. Databases and mail may be in other namespaces; in
    one of its own for databases, `database_selector` must say which are the domain's, or their pods be labelled.
    `replicas`: `first`: of several pods that each have a volume of their own one is backed up and restored (the first
    that is ready); `each`: one is backed up, and restored into each of them, one after the other; without it a backup
    of one is partial, and a restore is refused (`replicas_differ`). `database_replicas`: `first`, likewise of
    database pods that no label calls the primary. `database_primary`: the primary's label, `key=value`, where it is
    no operator's that is known. `objects`: a full backup has the objects of `namespace`, too (component
    `kubernetes`), Secrets only where the destination encrypts; of a namespace that other domains share, those that
    `objects_selector` selects. `snapshots`: files and mail are backed up from CSI VolumeSnapshots of their claims, as
    they were at one moment, of `snapshot_class` (else the driver's default); one that is not ready after
    `snapshot_seconds` (600) is not waited for: then they are read as they are, with a warning
    (`snapshot_not_made`)."""

    type: Literal["kubernetes"]
    context: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@:/._-]*$", max_length=253)] | None = None
    namespace: KubernetesName | None = None
    database_namespace: KubernetesName | None = None
    mail_namespace: KubernetesName | None = None
    selector: Selector | None = None
    container: ContainerName | None = None
    database_selector: Selector | None = None
    database_container: ContainerName | None = None
    mail_selector: Selector | None = None
    mail_container: ContainerName | None = None
    credentials_secret: KubernetesName | None = None
    replicas: Literal["first", "each"] | None = None
    database_replicas: Literal["first"] | None = None
    mail_replicas: Literal["first", "each"] | None = None
    database_primary: Annotated[str, Field(pattern=_LABEL_VALUE, max_length=400)] | None = None
    objects: bool | None = None
    objects_selector: Selector | None = None
    snapshots: bool | None = None
    snapshot_class: KubernetesName | None = None
    snapshot_seconds: Annotated[int, Field(ge=1, le=7200)] | None = None

    @field_validator("database_replicas", mode="before")
    @classmethod
    def one_database(cls, value: Any) -> Any:
        if value == "each":
            raise ValueError("a database is restored into its primary; its replicas are the database server's own")
        return value

    @model_validator(mode="after")
    def of_a_namespace(self) -> KubernetesDeployment:
        if self.objects and self.namespace is None:
            raise ValueError("objects are backed up of a namespace that is named")
        return self


DeploymentConfig = Annotated[
    AutoDeployment | StandaloneDeployment | DockerDeployment | KubernetesDeployment | SshDeployment,
    Discriminator("type"),
]
DEPLOYMENT_SECRETS = {"password", "private_key", "passphrase"}


class DatabaseIn(Input):
    """Passwords are write-only; leave one out on update to keep it."""

    engine: Literal["mysql", "mariadb", "postgresql", "redis"]
    name: PlainName
    host: Host | None = None
    port: int | None = Field(None, ge=1, le=65535)
    socket: AbsolutePath | None = None
    username: PlainName | None = None
    password: SecretStr | None = None
    admin_username: PlainName | None = None
    admin_password: SecretStr | None = None


class DatabaseOut(Model):
    id: int
    engine: str
    name: str
    host: str | None
    port: int | None
    socket: str | None
    username: str | None
    admin_username: str | None


class Mailbox(Model):
    email_address: str = Field(max_length=320, pattern=r"^[^@/\x00-\x20]+@[^@/\x00-\x20]+$")
    quota: int | None = Field(None, ge=0)

    @field_validator("email_address")
    @classmethod
    def no_path(cls, value: str) -> str:
        if value.startswith((".", "-")):
            raise ValueError("must not start with a dot or a hyphen")
        return value


class DomainIn(Input):
    """`shared`: its folders and databases may be those of another domain (operators only; left out: as it was).
    Without it that is refused (409, `domain_overlap`), and so are folders around or inside another domain's.
    `proof`: as for a schedule, which has precedence."""

    domain_name: DomainName
    user_id: Id | None = None
    deployment: DeploymentConfig = AutoDeployment()
    document_root: AbsolutePath | None = None
    mail_path: AbsolutePath | None = None
    system_user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$")] | None = None
    exclusions: list[Annotated[str, Field(min_length=1, max_length=1024)]] = Field([], max_length=500)
    databases: list[DatabaseIn] = Field([], max_length=500)
    mailboxes: list[Mailbox] = Field([], max_length=10_000)
    shared: bool | None = None
    proof: Proof | None = None

    @field_validator("exclusions")
    @classmethod
    def one_line(cls, value: list[str]) -> list[str]:
        if any("\0" in pattern for pattern in value):
            raise ValueError("must not hold a zero byte")
        return value

    @field_validator("mailboxes")
    @classmethod
    def one_form(cls, value: list[Mailbox]) -> list[Mailbox]:
        for mailbox in value:
            mailbox.email_address = address_to_ascii(mailbox.email_address)
            if len(mailbox.email_address) > 320:
                raise ValueError(f"{mailbox.email_address[:100]}… is longer than 320 characters")
        return value

    @model_validator(mode="after")
    def unique(self) -> DomainIn:
        names = [(database.engine, database.name) for database in self.databases]
        if len(set(names)) < len(names):
            raise ValueError("a database is listed twice")
        return self


class DomainOut(Model):
    """`domain_name`: as it is looked up, `xn--…` where it is internationalised; `domain_name_unicode`: as people read
    it."""

    id: int
    uid: str
    domain_name: str
    domain_name_unicode: str
    user_id: int | None
    deployment: dict[str, Any]
    document_root: str | None
    mail_path: str | None
    system_user: str | None
    exclusions: list[str]
    databases: list[DatabaseOut]
    mailboxes: list[Mailbox]
    shared: bool
    proof: Proof | None
    created_at: datetime
    updated_at: datetime


class RemainsOut(Model):
    """What a restore has left of one part of a domain. `unsettled`: it stopped half-way, and is to be finished or
    undone; otherwise it is what was replaced, kept until `due_at`. `folder`: where it lies; null for a database (the
    runbook tells its names). `place`: of a restore into several pods' volumes, which pod and volume it is; else null.
    `error_message`: why it could not be seen to after the operation had ended, whose own error tells the first
    reason."""

    id: int
    operation_uid: str
    kind: str
    name: str
    unsettled: bool
    folder: str | None
    place: dict[str, Any] | None
    due_at: datetime
    attempts: int
    error_message: str | None
    created_at: datetime


class ProbeOut(Model):
    type: str
    found: bool
    reason: str


class RightOut(Model):
    """Of this service in a namespace of Kubernetes. `allowed`: null where that may not be asked. `without`: what it
    cannot do where it is not."""

    namespace: str
    right: str
    required: bool
    allowed: bool | None
    without: str


class DetectionOut(Model):
    """`type`: where a backup would look now, null when nothing or too much was found. `uses`: containers by role.
    `rights`: of pods' namespaces, what may be done there."""

    type: str | None
    reason: str
    probes: list[ProbeOut]
    document_root: str | None
    mail_path: str | None
    databases: list[str]
    uses: dict[str, Any]
    rights: list[RightOut]


class EnvironmentOut(Model):
    """What this service runs in."""

    mode: str
    reason: str
    cloud_provider: str | None
    is_kubernetes: bool
    is_docker: bool
    is_standalone: bool
    supports_auto_scaling: bool
