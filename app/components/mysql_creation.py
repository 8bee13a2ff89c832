"""Making a MySQL or MariaDB database and its account."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from app.components.base import Report
from app.components.creation import Missing, NewDatabase
from app.components.mysql_client import MysqlClient, MysqlTarget, identifier, literal
from app.components.mysql_dump import take_inventory
from app.components.mysql_statements import with_known_collations
from app.deployments.base import Deployment
from app.errors import DatabaseAccessDenied, LoadFailed

_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_NO_GRANT = ("1141", "1147", "1133", "1269")


class NewMysql(NewDatabase):
    """`target`: with its administrator. `neighbour`: the owner of a database on the same server, from whose host the
    new account may log in as well."""

    def __init__(self, deployment: Deployment, target: MysqlTarget, neighbour: MysqlTarget | None) -> None:
        assert target.admin is not None
        self._target = target
        self._owner = MysqlClient(deployment, target, target.owner)
        self._admin = MysqlClient(deployment, target, target.admin)
        self._neighbour = MysqlClient(deployment, neighbour, neighbour.owner) if neighbour else None

    async def missing(self) -> Missing:
        database, account = await self._there()
        return Missing(not database, not account, await self._host(exists=account))

    async def _there(self) -> tuple[bool, bool]:
        """The database; an account of that name."""
        (database,), (account,) = await self._admin.ask(
            f"SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(self._target.name)};\n"
            f"SELECT COUNT(*) FROM mysql.user WHERE User = {literal(self._target.owner.username)};",
            database=False,
        )
        return database != "0", account != "0"

    async def _host(self, *, exists: bool) -> str:
        """Where the account logs in from: its own, its neighbour's, the administrator's."""
        if exists:
            return await _host_of(self._owner)
        try:
            return await _host_of(self._neighbour or self._admin)
        except DatabaseAccessDenied:
            return await _host_of(self._admin)

    async def make(self, facts: Mapping[str, Any], report: Report) -> None:
        missing, target = await self.missing(), self._target
        account = f"{identifier(target.owner.username)}@{identifier(missing.host)}"
        script = "SET SESSION sql_mode = '';\n"
        if missing.database:
            script += f"CREATE DATABASE {identifier(target.name)}{await self._characters(facts, report)};\n"
        elif await self._holds_anything():
            raise LoadFailed(f"Somebody else has made a database {target.name} meanwhile; it is as it was")
        if missing.account:
            script += f"CREATE USER {account} {await self._identified()};\n"
        script += f"GRANT ALL ON {_literally(target.name)}.* TO {account};\n"
        await self._admin.ask(script, database=False)

    async def _characters(self, facts: Mapping[str, Any], report: Report) -> str:
        charset, collation = str(facts.get("charset", "")), str(facts.get("collation", ""))
        if not (_NAME.fullmatch(charset) and _NAME.fullmatch(collation)):
            return ""
        known = with_known_collations(collation.encode()).decode()
        for wanted in dict.fromkeys((collation, known)):
            rows = await self._admin.ask(
                "SELECT 1 FROM information_schema.COLLATIONS WHERE COLLATION_NAME = "
                f"{literal(wanted)} OR CONCAT({literal(charset)}, '_', COLLATION_NAME) = {literal(wanted)};",
                database=False,
            )
            if rows:
                return f" CHARACTER SET {charset} COLLATE {wanted}"
        report.warn("collation_unknown", f"The server does not know the collation {collation}: it has its default")
        return f" CHARACTER SET {charset}"

    async def _identified(self) -> str:
        """MySQL writes no password into its logs; MariaDB writes what it is sent."""
        password = self._target.owner.password or ""
        (version,) = (await self._admin.ask("SELECT VERSION();", database=False))[0]
        if "MariaDB" not in version:
            return f"IDENTIFIED BY {_quoted(password)}"
        once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
        twice = hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()
        return f"IDENTIFIED BY PASSWORD '*{twice}'"

    async def remove(self, made: Missing, *, surely_ours: bool) -> None:
        (database, login), target = await self._there(), self._target
        account = f"{identifier(target.owner.username)}@{identifier(made.host)}"
        if made.account and login:
            await self._admin.ask(f"DROP USER IF EXISTS {account};", database=False)
        if not made.database or not database:
            return
        if not surely_ours and await self._holds_anything():
            raise LoadFailed(
                f"There is a database {target.name}, and whether the restore has made it cannot be told: look at it, "
                "and drop it if nobody needs it"
            )
        await self._admin.ask(f"DROP DATABASE IF EXISTS {identifier(target.name)};", database=False)
        if not made.account:
            revoked = await self._admin.execute(
                f"REVOKE ALL ON {_literally(target.name)}.* FROM {account};", database=False
            )
            if revoked.status != 0 and not any(f"ERROR {number}" in revoked.stderr for number in _NO_GRANT):
                raise self._admin.explained(revoked.stderr)

    async def _holds_anything(self) -> bool:
        found = await take_inventory(self._admin)
        return bool(found.tables or found.views or found.routines or found.events)


async def _host_of(client: MysqlClient) -> str:
    return (await client.ask("SELECT CURRENT_USER();", database=False))[0][0].rpartition("@")[2]


def _literally(database: str) -> str:
    """In a GRANT, where _ and % stand for others."""
    return identifier(re.sub(r"([_%\\])", r"\\\1", database))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
