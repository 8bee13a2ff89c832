"""A MySQL or MariaDB database: the dump program's SQL, restored beside the live database or in place."""

from __future__ import annotations

from contextlib import aclosing

from app.archives.streams import ByteStream
from app.components.base import Component, Dump, Report, RestoreContext
from app.components.mysql_client import MysqlClient, MysqlTarget, literal
from app.components.mysql_dump import dump_database, take_inventory
from app.components.mysql_restore import InPlaceRestore, ScratchRestore
from app.deployments.base import Deployment
from app.errors import DatabaseAccessDenied, LoadFailed

#: Rights beyond one's own databases: a tenant's SQL must not run with them.
_TOO_MUCH = "'SUPER', 'FILE', 'CREATE USER', 'SHUTDOWN', 'DROP', 'INSERT', 'SET USER', 'SET_USER_ID'"


class MysqlComponent(Component):
    kind = "mysql"

    def __init__(self, deployment: Deployment, target: MysqlTarget) -> None:
        self._target = target
        self._owner = MysqlClient(deployment, target, target.owner)
        self._admin = MysqlClient(deployment, target, target.admin) if target.admin else None

    async def dump(self) -> Dump:
        """As the administrator where there is one: the owner may not see every routine's definition."""
        return await dump_database(self._admin or self._owner)

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        rows = await self._owner.ask(
            "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = CONCAT(QUOTE(SUBSTRING_INDEX("
            "CURRENT_USER(), '@', 1)), '@', QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))) "
            f"AND PRIVILEGE_TYPE IN ({_TOO_MUCH});"
        )
        if rows != [["0"]]:
            raise DatabaseAccessDenied(
                f"{self._target.owner.username} is an administrator, and a tenant's SQL must not run as one; "
                f"configure the account that owns {self._target.name}, and this one as its admin account"
            )
        if self._admin is None:
            return "in_place_after_safety_copy"
        name = literal(self._target.name)
        rows = await self._admin.ask(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS "
            f"WHERE UNIQUE_CONSTRAINT_SCHEMA = {name} AND CONSTRAINT_SCHEMA <> {name} LIMIT 1;"
        )
        if rows:
            raise LoadFailed(
                f"{'.'.join(rows[0])} has a foreign key into {self._target.name}; drop it before the restore"
            )
        return "scratch"

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        async with aclosing(source):
            await self.preflight(context, plain_size)
            if self._admin is not None:
                await ScratchRestore(self._owner, self._admin, context).run(source)
            else:
                await InPlaceRestore(self._owner, context).run(source)
        report = Report()
        report.facts.update((await take_inventory(self._owner)).facts())
        return report
