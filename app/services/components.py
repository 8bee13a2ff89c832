"""Which components a backup of a domain has, and how each is built."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from app.addresses import AddressGuard
from app.archives.manifest import Warning_
from app.components.base import PLACE, Component, Report
from app.components.creation import NewDatabase
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mail import MailComponent, MailTarget
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.db.models import Domain, DomainDatabase
from app.deployments.base import Deployment, User
from app.deployments.detector import Detection
from app.deployments.linked_folder import real_folder
from app.deployments.registry import DeploymentRegistry
from app.deployments.site import DatabaseAccount, DomainPlace, Fate, Replicas, Right, Role, Serving, Site, Waits
from app.deployments.standalone import StandaloneDeployment
from app.deployments.tree import Staged
from app.errors import (
    ComponentError,
    DeploymentError,
    DestinationUnreachable,
    InvalidRequest,
    TargetMissing,
    WrongServer,
)
from app.security.keys import CredentialCipher
from app.services.creations import new_database
from app.settings import SitesSettings

T = TypeVar("T")
Journal = dict[str, Any]
#: Who may set a database's host may have it in a private network, but not where clouds have their metadata.
_OPERATORS = AddressGuard()
Pin = Callable[[int, dict[str, Any]], Awaitable[None]]
#: Of a part's journal: on which volume a restore works, where another pod may have another one.
VOLUME = "volume"
#: Of a part's journal: that it is of one of several places that are each restored, and of which. `number`: the part's
#: in the backup; `place`: namespace, pod, node and volume; `instance`: the pod's, where the volume goes with it;
#: `absent`: for people, places that were not there when it began.
REPLICA = "replica"
#: Kinds of parts that lie in folders, and who serves them.
_FOLDERS: dict[str, Role] = {"files": "files", "mail": "mail"}
#: The kind, and the name, of a namespace's objects.
OBJECTS = "kubernetes"
_WANTED = {
    "full": {"files", "database", "mail", OBJECTS},
    "files": {"files"},
    "database": {"database"},
    "email": {"mail"},
}


@dataclass(frozen=True, slots=True)
class Planned:
    """One component of a backup: `name` is the database's, or the kind itself."""

    number: int
    kind: str
    name: str


def planned(domain: Domain, type: str) -> list[Planned]:
    """What a backup of this type holds. Redis is a cache: it is never backed up."""
    wanted = _WANTED[type]
    found: list[tuple[str, str]] = []
    if "files" in wanted and domain.document_root:
        found.append(("files", "files"))
    if "database" in wanted:
        found += [(d.engine, d.name) for d in domain.databases if not _is_cache(d)]
    if "mail" in wanted and domain.mail_path and domain.mailboxes:
        found.append(("mail", "mail"))
    if OBJECTS in wanted and domain.deployment.get("objects"):
        found.append((OBJECTS, OBJECTS))
    return [Planned(number, *item) for number, item in enumerate(found, 1)]


class ComponentFactory:
    """`pin` keeps in a domain's setting what was learnt at the first connection to its server. `server`: the one that
    this process runs on, as domains name it."""

    def __init__(
        self,
        deployments: DeploymentRegistry,
        sites: SitesSettings,
        cipher: CredentialCipher,
        pin: Pin,
        server: str | None = None,
    ) -> None:
        self._server = server
        self._cipher = cipher
        self._deployments = deployments
        self._sites = sites
        self._pin = pin

    @asynccontextmanager
    async def opened(self, domain: Domain, waits: Waits | None = None) -> AsyncGenerator[DomainSite, None]:
        """Where a domain runs; connections are closed at the end. `waits` is told what is waited for there. Raises
        InvalidRequest, DeploymentError, WrongServer before anything of this machine is touched."""
        self._require_here(domain)
        site = await self._deployments.open(self.place(domain), partial(self._pin, domain.id))
        site.waits = waits or site.waits
        try:
            yield DomainSite(site, domain, self._sites, self._cipher)
        finally:
            await asyncio.shield(site.close())

    def _require_here(self, domain: Domain) -> None:
        wanted = domain.server
        if wanted is not None and wanted != self._server:
            here = self._server or "none in particular"
            raise WrongServer(f"{domain.domain_name} is on server {wanted}; this process runs on {here}")

    def place(self, domain: Domain) -> DomainPlace:
        secrets = self._cipher.open(domain.deployment_credentials)
        configuration = {**domain.deployment, **secrets}
        return DomainPlace(domain.domain_name, configuration, domain.document_root, domain.mail_path)

    async def detect(self, domain: Domain) -> tuple[Detection, dict[str, Any], list[Right]]:
        """What a backup would find now, what it would use, by role, and what may be done there."""
        self._require_here(domain)
        place = self.place(domain)
        found = await self._deployments.detector.probe(place)
        if found.type is None:
            return found, {}, []
        known = replace(place, configuration={**place.configuration, "type": found.type})
        site = await self._deployments.open(known, partial(self._pin, domain.id))
        try:
            return found, await site.describe(), await site.rights()
        finally:
            await asyncio.shield(site.close())

    async def environment(self) -> dict[str, Any]:
        """What this service runs in."""
        return await self._deployments.detector.environment()


class DomainSite:
    """A domain's components, while its place is open."""

    def __init__(self, site: Site, domain: Domain, sites: SitesSettings, cipher: CredentialCipher) -> None:
        self._site = site
        self._domain = domain
        self._sites = sites
        self._cipher = cipher
        #: Whether anything of the domain was reached: then its place was there.
        self.reached = False

    @property
    def facts(self) -> dict[str, str]:
        """Where, and why there: for the manifest."""
        return {"type": self._site.kind, "reason": self._site.reason}

    async def caches(self, type: str) -> list[str]:
        """What a backup of this type leaves out because it is a cache. Where it cannot be asked it is not told."""
        if "database" not in _WANTED[type]:
            return []
        found = [f"{database.engine} {database.name}" for database in self._domain.databases if _is_cache(database)]
        with suppress(DeploymentError):
            found += await self._site.caches()
        return found

    async def staged(self) -> list[tuple[str, Journal, str, Staged]]:
        """What restores have left in the domain's folders: the part's kind, what its journal has of the place, the
        folder, and what lies there. Where it cannot be looked at, nothing: whoever needs the folder says why."""
        found: list[tuple[str, Journal, str, Staged]] = []
        domain = self._domain
        places: list[tuple[Role, str | None]] = [("files", domain.document_root), ("mail", domain.mail_path)]
        for role, path in places:
            if path is None:
                continue
            with suppress(DeploymentError):
                replicas = await self._site.replicas(role, waits=False)
                for served in [None] if replicas is None else replicas.there:
                    with suppress(DeploymentError):
                        found += await self._staged_at(role, path, served)
        return found

    async def _staged_at(
        self, role: Role, path: str, replica: Serving | None
    ) -> list[tuple[str, Journal, str, Staged]]:
        deployment = await self._site.at(role, reads=True, volume=None if replica is None else replica.key)
        folder = await real_folder(deployment, path) if role == "files" else path
        served = self._site.serving(role)
        there = {} if served is None else {VOLUME: served.volume}
        if replica is not None:
            there = replica_of(None, replica)
        return [(role, there, folder, one) for one in await deployment.tree.staged(folder)]

    async def make_folders(self) -> None:
        """Where the domain's document root and mail folder are not there, make them, for its system user.

        Raises InvalidRequest for a system account, TargetMissing when a link stands in the way, DeploymentError.
        """
        domain = self._domain
        places: list[tuple[Role, str | None]] = [("files", domain.document_root), ("mail", domain.mail_path)]
        for role, path in places:
            if path is None:
                continue
            deployment = await self._site.at(role)
            if role == "files" and await real_folder(deployment, path) != path:
                continue
            with suppress(TargetMissing):
                await deployment.tree.status(path)
                continue
            wanted = (self._sites.mail_user if role == "mail" else None) or domain.system_user
            if wanted is None:
                raise InvalidRequest(f"{domain.domain_name} needs a system user to own {path}", field="system_user")
            user = self._checked(deployment, domain, await deployment.resolve_user(wanted))
            await deployment.tree.make_folder(path, user)

    async def build(
        self,
        kind: str,
        name: str,
        *,
        reads: bool = False,
        volume: str | None = None,
        sealed: bool = False,
        frozen: bool = False,
    ) -> Component:
        """`reads`: only to dump it, `sealed`: to where it is encrypted, `frozen`: as it was at one moment, where the
        setting says so (see `thaw`). `volume`: of files and mail, where a restore
        goes on. Raises InvalidRequest, TargetMissing, ComponentError for an unknown kind, DeploymentError,
        ReplicasDiffer unless it `reads`."""
        if kind == OBJECTS:  # which asks nobody yet
            return self._objects(self._domain, sealed=sealed)
        built = await self._read_frozen(kind) if frozen else None
        built = built or await self._built(kind, name, reads=reads, volume=volume)
        self.reached = True
        return built

    async def _read_frozen(self, kind: str) -> Component | None:
        """None: it is read as it is."""
        role = _FOLDERS.get(kind)
        deployment = None if role is None else await self._site.frozen(role)
        if role is None or deployment is None:
            return None
        try:
            if role == "files":
                return await self._files(deployment, self._domain)
            return await self._mail(deployment, self._domain)
        except (DeploymentError, InvalidRequest) as error:  # as a link out of its volumes, a user of the site's image
            await self._site.thaw(role, error.message)
            return None

    async def thaw(self, kind: str, name: str) -> list[Warning_]:
        """After what was built `frozen` was read. Returns what stays of it. Raises nothing."""
        role = _FOLDERS.get(kind)
        stays = [] if role is None else await self._site.thaw(role)
        return [Warning_(code="snapshot_left", message=one[:1000], subject=name) for one in stays]

    async def _built(self, kind: str, name: str, *, reads: bool, volume: str | None) -> Component:
        domain = self._domain
        if kind == "files":
            return await self._files(await self._site.at("files", reads=reads, volume=volume), domain)
        if kind == "mail":
            return await self._mail(await self._site.at("mail", reads=reads, volume=volume), domain)
        if kind == "postgresql":
            return await self._postgresql(domain, name, reads=reads)
        if kind in ("mysql", "mariadb"):
            return await self._mysql(domain, kind, name, reads=reads)
        raise ComponentError(f"{kind} {name}: backing up {kind} is not supported")

    def serving(self, kind: str, name: str) -> Serving | None:
        """Which pod a component was built in. None: it is in none, or was not built yet."""
        role = self._role(kind, name)
        return None if role is None else self._site.serving(role)

    async def again(self, kind: str, name: str, volume: str | None = None) -> None:
        """After it was cut off: choose anew where a component is, and see that it answers. Raises DeploymentError,
        TimeoutError."""
        role = self._role(kind, name)
        if role is not None:
            await self._site.again(role, volume)

    async def fate(self, served: Serving | None) -> Fate | None:
        """What has happened to what served. None: it is not known. Raises nothing."""
        return await self._site.fate(served)

    async def replicas(self, kind: str) -> Replicas | None:
        """The places that files or mail are each restored into. None: into one. Raises DeploymentError,
        ReplicasDiffer."""
        role = _FOLDERS.get(kind)
        return None if role is None else await self._site.replicas(role)

    async def gone(self, journal: Mapping[str, Any]) -> bool:
        """Whether the place that a part was restored into is gone for good, with its pod. Raises DeploymentError."""
        replica = journal.get(REPLICA)
        if not replica or not replica["instance"]:
            return False
        return await self._site.gone(_FOLDERS[journal["kind"]], replica["place"], replica["instance"])

    def _role(self, kind: str, name: str) -> Role | None:
        """Where commands for a component are run; None: a database that is reached by its host."""
        if kind in _FOLDERS:
            return _FOLDERS[kind]
        database = self.database(kind, name)
        elsewhere = database is None or (database.host is not None and self._site.contained)
        return None if elsewhere else "database"

    async def creation(self, engine: str, name: str, like: DomainDatabase | None) -> NewDatabase:
        """What makes a database that the setting has, or that is to get the server of `like`. Raises as `build`."""
        setting = self._required(engine, name) if like is None else like
        deployment, _, account = await self._reached(setting)
        if account.admin_username is None and setting.host is None:
            inside = await self._site.database_account(engine)
            account = replace(account, admin_username=inside.admin_username, admin_password=inside.admin_password)
        return new_database(deployment, self._domain, engine, name, setting, account, self._cipher)

    def database(self, engine: str, name: str) -> DomainDatabase | None:
        """As the domain's setting has it."""
        return self._domain.database(engine, name)

    def _required(self, engine: str, name: str) -> DomainDatabase:
        if (found := self.database(engine, name)) is not None:
            return found
        raise InvalidRequest(f"{self._domain.domain_name} has no {engine} database {name}; add it to restore into it")

    def renew(self, domain: Domain) -> None:
        """Its setting has changed since its place was opened; where that is has not."""
        self._domain = domain

    async def rebuilt(self, kind: str, name: str, journal: Mapping[str, Any]) -> Component:
        """To settle or tidy what a restore has begun: at the place that it journalled, whatever a link leads to,
        whichever pod has its volume and whoever owns it by now. Raises as `build`."""
        plan = journal.get("plan")
        volume = begun_on(journal)
        if plan and kind == "files":
            deployment = await self._site.at("files", volume=volume)
            return FilesComponent(deployment, FilesTarget(plan["target"], User(0, 0)))
        if plan and kind == "mail":
            deployment = await self._site.at("mail", volume=volume)
            return MailComponent(deployment, MailTarget(plan["target"], [], User(0, 0)))
        return await self.build(kind, name, volume=volume)

    async def _database(
        self, engine: str, name: str, *, reads: bool
    ) -> tuple[Deployment, DomainDatabase, DatabaseAccount]:
        deployment, database, account = await self._reached(self._required(engine, name), reads=reads)
        if account.username is None:
            raise InvalidRequest(f"The {engine} database {name} has no username", field="databases")
        return deployment, database, account

    async def _reached(
        self, database: DomainDatabase, *, reads: bool = False
    ) -> tuple[Deployment, DomainDatabase, DatabaseAccount]:
        """A database with a host is reached from here when its site runs in containers."""
        if database.host is not None and self._site.contained:
            deployment: Deployment = StandaloneDeployment()
        else:
            deployment = await self._site.at("database", reads=reads)
        if database.host is not None and isinstance(deployment, StandaloneDeployment):
            with suppress(DestinationUnreachable):  # the client says so, too
                await _OPERATORS.addresses(database.host, database.port or 0)
        known = self._cipher.open(database.credentials)
        if database.username is not None:
            account = DatabaseAccount(
                database.username, known.get("password"), database.admin_username, known.get("admin_password")
            )
        elif database.host is None:
            account = await self._site.database_account(database.engine)
        else:
            account = DatabaseAccount()
        return deployment, database, account

    def _objects(self, domain: Domain, *, sealed: bool) -> Component:
        from app.components.kubernetes import KubernetesComponent  # and the SDK with it

        objects = self._site.objects()
        if objects is None:
            raise InvalidRequest(
                f"{domain.domain_name} has no namespace whose objects are backed up: set namespace and objects in "
                "its deployment",
                field="deployment",
            )
        if domain.shared and not domain.deployment.get("objects_selector"):
            raise InvalidRequest(
                f"Other domains may share namespace {objects.namespace}: set objects_selector in the deployment of "
                f"{domain.domain_name}",
                field="deployment",
            )
        return KubernetesComponent(objects, sealed=sealed)

    async def _files(self, deployment: Deployment, domain: Domain) -> FilesComponent:
        if domain.document_root is None:
            raise InvalidRequest(f"{domain.domain_name} has no document root", field="document_root")
        folder = await real_folder(deployment, domain.document_root)
        owner = await self._owner(deployment, domain, folder)
        owners = await _known(deployment.resolve_user, self._sites.restore_owners)
        groups = await _known(deployment.resolve_group, self._sites.restore_groups)
        return FilesComponent(
            deployment,
            FilesTarget(
                document_root=folder,
                link=None if folder == domain.document_root else domain.document_root,
                owner=owner,
                reader=owner if self._sites.read_as == "system_user" else None,
                exclusions=domain.exclusions,
                allowed_uids=frozenset(user.uid for user in owners),
                allowed_gids=frozenset(groups),
            ),
        )

    async def _mail(self, deployment: Deployment, domain: Domain) -> MailComponent:
        if domain.mail_path is None:
            raise InvalidRequest(f"{domain.domain_name} has no mail folder", field="mail_path")
        if self._sites.mail_user is not None:
            owner = await deployment.resolve_user(self._sites.mail_user)
        else:
            owner = await self._folder_owner(deployment, domain, domain.mail_path)
        mailboxes = [mailbox.email_address for mailbox in domain.mailboxes]
        return MailComponent(deployment, MailTarget(domain.mail_path, mailboxes, owner))

    async def _postgresql(self, domain: Domain, name: str, *, reads: bool) -> PostgresqlComponent:
        deployment, database, account = await self._database("postgresql", name, reads=reads)
        host = database.host or database.socket
        assert account.username is not None
        admin = (account.admin_username, account.admin_password)
        return PostgresqlComponent(
            deployment, PostgresqlTarget(name, account.username, account.password, host, database.port, *admin)
        )

    async def _mysql(self, domain: Domain, kind: str, name: str, *, reads: bool) -> MysqlComponent:
        deployment, database, account = await self._database(kind, name, reads=reads)
        admin = account.admin_username
        assert account.username is not None
        return MysqlComponent(
            deployment,
            MysqlTarget(
                name,
                Account(account.username, account.password),
                Account(admin, account.admin_password) if admin else None,
                database.host,
                database.port,
                database.socket,
            ),
        )

    async def _owner(self, deployment: Deployment, domain: Domain, folder: str) -> User:
        """The domain's system user, or the folder's owner; never a system account that is not listed."""
        if domain.system_user is not None:
            user = await deployment.resolve_user(domain.system_user)
        else:
            return await self._folder_owner(deployment, domain, folder)
        return self._checked(deployment, domain, user)

    async def _folder_owner(self, deployment: Deployment, domain: Domain, folder: str) -> User:
        status = await deployment.tree.status(folder)
        return self._checked(deployment, domain, User(status.uid, status.gid))

    def _checked(self, deployment: Deployment, domain: Domain, user: User) -> User:
        listed = {domain.system_user, str(user.uid)} & set(self._sites.system_users)
        # A container's users are its own, and images give them low numbers.
        if deployment.privileged and user.uid < 1000 and not listed and not self._site.contained:
            raise InvalidRequest(
                f"{domain.domain_name} belongs to system user {user.uid}; set its system_user, or list the user "
                "in the settings",
                field="system_user",
            )
        return user


def begun_on(journal: Mapping[str, Any]) -> str | None:
    """The volume that a restore has begun to change, or is to go into."""
    return journal.get(VOLUME) if journal.get("plan") or journal.get(REPLICA) else None


def replica_of(number: int | None, served: Serving, absent: Sequence[str] = ()) -> Journal:
    """What the journal of a part has of one of several places that are each restored."""
    instance = served.instance if served.mortal else None
    told = {"number": number, "place": served.facts, "instance": instance, "absent": list(absent)}
    return {VOLUME: served.key, REPLICA: told}


def tell_replicas(report: Report, serving: Serving | None, done: str) -> None:
    """Where a part is, and which other pods are not `done`, as `read`."""
    if serving is None:
        return
    report.facts[PLACE] = serving.facts
    if serving.unfrozen is not None:
        report.warn("snapshot_not_made", f"was read while it may have changed: {serving.unfrozen}"[:1000])
    tell = report.warn if serving.allowed else report.lack
    for other in serving.others:
        tell(
            f"replica_not_{done}", f"is not known to have what {serving.facts['pod']} has, and was not {done}", other
        )


def _is_cache(database: DomainDatabase) -> bool:
    return database.engine == "redis"


async def _known(resolve: Callable[[str], Awaitable[T]], names: list[str]) -> list[T]:
    """What the names of the settings mean where the site runs; not those that nobody has there."""
    found = []
    for name in names:
        with suppress(InvalidRequest):
            found.append(await resolve(name))
    return found


def facts_of(report: Report) -> dict[str, Any]:
    return {
        "warnings": [warning.model_dump() for warning in report.warnings],
        "incomplete": [lack.model_dump() for lack in report.incomplete],
        "facts": report.facts,
    }
