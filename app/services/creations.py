"""What makes a new database for a domain, from its settings."""

from __future__ import annotations

from app.components.creation import NewDatabase
from app.components.mysql_client import Account, MysqlTarget
from app.components.mysql_creation import NewMysql
from app.components.postgresql import PostgresqlTarget
from app.components.postgresql_creation import NewPostgresql
from app.db.models import Domain, DomainDatabase
from app.deployments.base import Deployment
from app.deployments.site import DatabaseAccount
from app.errors import InvalidRequest
from app.security.keys import CredentialCipher


def new_database(
    deployment: Deployment,
    domain: Domain,
    engine: str,
    name: str,
    setting: DomainDatabase,
    account: DatabaseAccount,
    cipher: CredentialCipher,
) -> NewDatabase:
    """`setting`: its own, or that of a database on the same server; `account`: as that says. Raises
    InvalidRequest."""
    if account.admin_username is None:
        raise InvalidRequest(
            f"{name} cannot be made: the {engine} database {setting.name} of {domain.domain_name} has no admin "
            "account",
            field="create",
        )
    username = account.username or name
    if engine == "postgresql":
        host = setting.host or setting.socket
        target = PostgresqlTarget(name, username, account.password, host, setting.port)
        return NewPostgresql(deployment, target, (account.admin_username, account.admin_password))
    place = (setting.host, setting.port, setting.socket)
    admin = Account(account.admin_username, account.admin_password)
    made = MysqlTarget(name, Account(username, account.password), admin, *place)
    neighbours = (one for one in domain.databases if one.engine in ("mysql", "mariadb") and one.name != name)
    for one in neighbours:
        if (one.host, one.port, one.socket) == place and one.username is not None:
            known = Account(one.username, cipher.open(one.credentials).get("password"))
            return NewMysql(deployment, made, MysqlTarget(one.name, known, None, *place))
    return NewMysql(deployment, made, None)
