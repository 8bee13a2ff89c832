"""The places of one domain: where its files, its databases and its mail are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from app.deployments.base import Deployment
from app.errors import DeploymentError

if TYPE_CHECKING:
    from app.deployments.kubernetes_objects import NamespaceObjects

#: Told of a role what is waited for; None: no longer.
Waits = Callable[[str, str | None], None]
#: Keeps what was learnt at the first connection in the domain's setting.
Pin = Callable[[dict[str, Any]], Awaitable[None]]
Role = Literal["files", "database", "mail"]
ROLES: tuple[Role, ...] = ("files", "database", "mail")
#: What containers and services of a cache are called.
CACHES = ("redis", "valkey")


_ANSWER_SECONDS = 60


def setting_of(role: Role, name: str) -> str:
    """The key of a role's setting: those of the files have no prefix."""
    return name if role == "files" else f"{role}_{name}"


@dataclass(frozen=True, slots=True)
class DatabaseAccount:
    """What a place itself knows of its database's accounts. Empty fields: nothing."""

    username: str | None = None
    password: str | None = None
    admin_username: str | None = None
    admin_password: str | None = None


@dataclass(frozen=True, slots=True)
class DomainPlace:
    """What is known of a domain when its place is looked for. `configuration`: its setting, with secrets."""

    domain_name: str
    configuration: dict[str, Any] = field(repr=False)
    document_root: str | None = None
    mail_path: str | None = None


def _unheard(role: str, what: str | None) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Serving:
    """`facts`: which pod, container and volume. `volume`: what the volume is known by, where it outlives the pod.
    `others`: for people, those that may hold other files or another database, and that are neither read nor changed;
    `allowed`: an operator has said that one is enough. `instance`: tells the pod from one that took its name. `key`:
    what the volume is known by, also one that goes with its pod, as `mortal` tells. `unfrozen`: why no snapshot is
    read, where one is wanted."""

    facts: dict[str, Any]
    volume: str | None = None
    others: tuple[str, ...] = ()
    allowed: bool = False
    instance: str | None = None
    key: str | None = None
    mortal: bool = False
    unfrozen: str | None = None


@dataclass(frozen=True, slots=True)
class Replicas:
    """Of a role that is restored into each of several volumes: one pod for each. `absent`: for people, those that
    should be there and are not."""

    there: tuple[Serving, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fate:
    """What has happened to what served: a sentence without an end. `ended`: it has, or is about to: then whatever
    failed in it may have failed by that."""

    told: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Right:
    """What this service may do at a place. `allowed`: None where that may not be asked. `without`: what it cannot do
    where it may not."""

    namespace: str
    right: str
    required: bool
    allowed: bool | None
    without: str


@dataclass(frozen=True, slots=True)
class HelperImage:
    """Of pods that are made beside those whose image lacks something. `image`: with sh, GNU tar or busybox, cksum or
    sha256sum. `service_account`: of each namespace; its token is not mounted. `cpu`, `memory`: its limits, as
    Kubernetes writes them."""

    image: str
    service_account: str | None
    cpu: str
    memory: str


class Site(ABC):
    """Open while an operation runs. `kind`: where; `reason`: why this place was chosen. `contained`: in a container,
    whose users and whose network are its own."""

    kind: str
    contained = False
    reason: str = "the domain's own setting"
    waits: Waits = staticmethod(_unheard)

    @abstractmethod
    async def at(self, role: Role, *, reads: bool = False, volume: str | None = None) -> Deployment:
        """Where commands for `role` are run. `reads`: nothing is changed there. `volume`: the one that a restore
        has begun to change (see Serving). Raises DeploymentError, ReplicasDiffer unless it `reads`."""

    async def frozen(self, role: Role) -> Deployment | None:
        """Where what `role` has is read as it was at one moment, with `at`'s paths; `thaw` it afterwards. None: it is
        read where `at` says. Raises DeploymentError only where `at` would."""
        return None

    async def thaw(self, role: Role, problem: str | None = None) -> list[str]:
        """`problem`: why it was not read there. Returns what stays of it, for people. Raises nothing."""
        return []

    def serving(self, role: Role) -> Serving | None:
        """What `at` has chosen of several that could be it. None: there is no choice."""
        return None

    async def replicas(self, role: Role, *, waits: bool = True) -> Replicas | None:
        """The places that a restore goes into, where an operator has said that each of them is restored. None: it
        goes where `at` says. `waits`: for those that are not ready; else they are left out. Raises DeploymentError,
        ReplicasDiffer for too many."""
        return None

    async def gone(self, role: Role, place: Mapping[str, Any], instance: str) -> bool:
        """Whether a pod is gone for good, and what was only its own with it. `place`: its facts. Raises
        DeploymentError."""
        return False

    async def again(self, role: Role, volume: str | None = None) -> None:
        """After a command was cut off: choose anew where those for `role` are run (see `at`), and run one there.
        Raises DeploymentError, TimeoutError."""
        await (await self.at(role, reads=True, volume=volume)).run(["true"], timeout=_ANSWER_SECONDS)

    async def fate(self, served: Serving | None) -> Fate | None:
        """What has happened to what served when a command was cut off there. None: it is not known. Raises
        nothing."""
        return None

    async def database_account(self, engine: str) -> DatabaseAccount:
        """For a database whose setting names no account."""
        return DatabaseAccount()

    def objects(self) -> NamespaceObjects | None:
        """The namespace that the domain has for itself, where its objects may be backed up. Raises InvalidRequest."""
        return None

    async def caches(self) -> list[str]:
        """Where Redis or Valkey runs for the domain, for people, as far as the place itself tells. Raises
        DeploymentError."""
        return []

    async def rights(self) -> list[Right]:
        """What may be done there, where that can be asked. Raises DeploymentError."""
        return []

    @abstractmethod
    async def used(self, role: Role) -> Any:
        """What a backup would use, for people. Raises DeploymentError."""

    async def describe(self) -> dict[str, Any]:
        """What a backup would use, by role. Raises nothing: what is missing is described too."""
        found: dict[str, Any] = {}
        for role in ROLES:
            try:
                found[role] = await self.used(role)
            except DeploymentError as error:
                found[role] = {"problem": error.message, "code": error.code}
        return found

    async def close(self) -> None:  # noqa: B027  most places hold nothing
        """Release connections."""


class OneDeployment(Site):
    """A machine that has everything."""

    def __init__(self, deployment: Deployment) -> None:
        self.kind = deployment.kind
        self._deployment = deployment

    async def at(self, role: Role, *, reads: bool = False, volume: str | None = None) -> Deployment:
        await self._deployment.prepare()
        return self._deployment

    async def used(self, role: Role) -> Any:
        return self.kind

    async def close(self) -> None:
        await self._deployment.close()
