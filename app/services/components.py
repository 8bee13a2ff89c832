"""Which components a backup of a domain has, and how each is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.components.base import Component, Report
from app.components.files import FilesComponent, FilesTarget
from app.components.mail import MailComponent, MailTarget
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.db.models import Domain, DomainDatabase
from app.deployments.base import Deployment, User
from app.deployments.registry import DeploymentRegistry
from app.errors import ComponentError, InvalidRequest
from app.security.keys import CredentialCipher
from app.settings import SitesSettings

_WANTED = {
    "full": {"files", "database", "mail"},
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
        found += [(d.engine, d.name) for d in domain.databases if d.engine != "redis"]
    if "mail" in wanted and domain.mail_path and domain.mailboxes:
        found.append(("mail", "mail"))
    return [Planned(number, *item) for number, item in enumerate(found, 1)]


class ComponentFactory:
    def __init__(self, deployments: DeploymentRegistry, sites: SitesSettings, cipher: CredentialCipher) -> None:
        self._cipher = cipher
        self._deployments = deployments
        self._sites = sites

    async def build(self, domain: Domain, kind: str, name: str) -> Component:
        """Raises InvalidRequest, TargetMissing, ComponentError for an unknown kind."""
        deployment = self._deployments.build(domain.deployment)
        if kind == "files":
            return await self._files(deployment, domain)
        if kind == "postgresql":
            return self._postgresql(deployment, domain, name)
        if kind == "mail":
            return await self._mail(deployment, domain)
        if kind in ("mysql", "mariadb"):
            return self._mysql(deployment, domain, kind, name)
        raise ComponentError(f"{kind} {name}: backing up {kind} is not supported")

    async def _files(self, deployment: Deployment, domain: Domain) -> FilesComponent:
        if domain.document_root is None:
            raise InvalidRequest(f"{domain.domain_name} has no document root", field="document_root")
        owner = await self._owner(deployment, domain, domain.document_root)
        return FilesComponent(
            deployment,
            FilesTarget(
                document_root=domain.document_root,
                owner=owner,
                reader=owner if self._sites.read_as == "system_user" else None,
                exclusions=domain.exclusions,
                allowed_uids=frozenset(self._sites.restore_owners),
                allowed_gids=frozenset(self._sites.restore_groups),
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

    def _postgresql(self, deployment: Deployment, domain: Domain, name: str) -> PostgresqlComponent:
        database = _database(domain, "postgresql", name)
        if database.username is None:
            raise InvalidRequest(f"PostgreSQL database {name} has no username", field="databases")
        password = self._cipher.open(database.credentials).get("password")
        host = database.host or database.socket
        return PostgresqlComponent(
            deployment, PostgresqlTarget(name, database.username, password, host, database.port)
        )

    def _mysql(self, deployment: Deployment, domain: Domain, kind: str, name: str) -> MysqlComponent:
        database = _database(domain, kind, name)
        if database.username is None:
            raise InvalidRequest(f"MySQL database {name} has no username", field="databases")
        secrets = self._cipher.open(database.credentials)
        admin = database.admin_username
        return MysqlComponent(
            deployment,
            MysqlTarget(
                name,
                Account(database.username, secrets.get("password")),
                Account(admin, secrets.get("admin_password")) if admin else None,
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
        if deployment.privileged and user.uid < 1000 and not listed:
            raise InvalidRequest(
                f"{domain.domain_name} belongs to system user {user.uid}; set its system_user, or list the user "
                "in the settings",
                field="system_user",
            )
        return user


def _database(domain: Domain, engine: str, name: str) -> DomainDatabase:
    for database in domain.databases:
        if (database.engine, database.name) == (engine, name):
            return database
    raise InvalidRequest(f"{domain.domain_name} has no {engine} database {name}; add it to restore into it")


def facts_of(report: Report) -> dict[str, Any]:
    return {
        "warnings": [warning.model_dump() for warning in report.warnings],
        "incomplete": [lack.model_dump() for lack in report.incomplete],
        "facts": report.facts,
    }
