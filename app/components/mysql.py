"""A MySQL or MariaDB database: the dump program's SQL, restored beside the live database or in place."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from app.archives.streams import ByteStream
from app.components.base import Component, Dump, Report, RestoreContext, Settled
from app.components.mysql_client import MysqlClient, MysqlTarget, literal
from app.components.mysql_contents import DumpContents
from app.components.mysql_dump import dump_database, take_inventory
from app.components.mysql_grants import SHOW, too_much
from app.components.mysql_journal import KEY, OLD_NOT_NEEDED, UNSETTLED, State
from app.components.mysql_leftovers import ScratchNames, remove_leftovers
from app.components.mysql_proof import MysqlProof
from app.components.mysql_restore import InPlaceRestore
from app.components.mysql_scratch import ScratchRestore
from app.components.mysql_swap import Swap
from app.deployments.base import Deployment
from app.errors import ComponentError, DatabaseAccessDenied, LoadFailed, RestoreUnsettled


class MysqlComponent(Component):
    kind = "mysql"

    def __init__(self, deployment: Deployment, target: MysqlTarget) -> None:
        self._target = target
        self._owner = MysqlClient(deployment, target, target.owner)
        self._admin = MysqlClient(deployment, target, target.admin) if target.admin else None

    async def dump(self) -> Dump:
        """As the administrator where there is one: the owner may not see every routine's definition."""
        return await dump_database(self._admin or self._owner)

    async def dump_to_prove(self) -> Dump:
        if self._admin is None:
            return await self.dump()
        contents = DumpContents(counting=True)
        dump = await dump_database(self._admin, contents=contents)
        dump.proof = MysqlProof(self._owner, self._admin, contents, self.preflight)
        return dump

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        excess = too_much(row[0] for row in await self._owner.ask(SHOW))
        if excess:
            raise DatabaseAccessDenied(
                f"{self._target.owner.username} is an administrator ({', '.join(excess[:5])}), and a tenant's SQL "
                f"must not run as one; configure the account that owns {self._target.name} and no more, and this one "
                "as its admin account"
            )
        await self._fits(context)
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

    async def _fits(self, context: RestoreContext) -> None:
        """Whether the server would take what the backup holds, and, in place, what is live again."""
        live, facts, name = await take_inventory(self._owner), context.facts, self._target.name
        if facts.get("generated") and not live.mariadb and "MariaDB" in str(facts.get("server")):
            raise LoadFailed(
                f"{name}: the backup is MariaDB's ({facts['server']}) and has generated columns, whose values MySQL "
                "does not take; restore it into a MariaDB server"
            )
        programs = bool(facts.get("triggers") or facts.get("functions"))
        if self._admin is None:
            programs = programs or bool(live.triggers or live.facts()["functions"])
        if not programs:
            return
        rows = await self._owner.ask(
            "SHOW VARIABLES WHERE Variable_name IN ('log_bin', 'log_bin_trust_function_creators');"
        )
        if sorted(rows) == [["log_bin", "ON"], ["log_bin_trust_function_creators", "OFF"]]:
            raise LoadFailed(
                f"{name} has triggers or functions, which {self._target.owner.username} cannot create while the "
                "server writes a binary log and does not trust who makes them (error 1419); set "
                "log_bin_trust_function_creators = 1 there. Nothing was changed"
            )

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        report = Report()
        async with aclosing(source):
            settled = await self.settle(context)
            if settled.state != "done":
                await self.preflight(context, plain_size)
                if self._admin is not None:
                    await ScratchRestore(self._owner, self._admin, context).run(source, report)
                else:
                    await self.tidy(context.journal)  # of one with an administrator, whose names would be forgotten
                    await InPlaceRestore(self._owner, context).run(source, report)
        report.facts.update((await take_inventory(self._owner)).facts())
        return report

    async def settle(self, context: RestoreContext) -> Settled:
        noted = context.journal.get(KEY)
        if noted is None:
            return Settled()
        if noted["way"] == "in_place":
            return await InPlaceRestore(self._owner, context).settle()
        if self._admin is not None:
            return await Swap(self._owner, self._admin, context).settle()
        state = State(noted["state"])
        if state in UNSETTLED:
            names = ScratchNames.of(noted)
            raise RestoreUnsettled(
                f"the live database {self._target.name} may be incomplete: the admin account that could put it right "
                f"is not configured any more. Its former tables are in it or in {names.old}; there is no safety "
                "copy. Nothing was removed; configure the account, it is tried again"
            )
        return Settled("done" if state is State.DONE else "undone" if state is State.UNDONE else "untouched")

    async def tidy(self, journal: dict[str, Any]) -> None:
        """Remove the scratch database, the former tables, the temporary account and its grants."""
        noted = journal.get(KEY)
        if noted is None or noted["way"] != "scratch":
            return
        state, names = State(noted["state"]), ScratchNames.of(noted)
        if state in UNSETTLED:
            raise RestoreUnsettled(f"{self._target.name}: what is live is not settled yet: nothing is removed")
        if state is not State.PLANNED and not journal.get("tidy"):
            return  # it was removed
        if self._admin is None:
            raise ComponentError(
                f"{self._target.name}: {names.scratch}, {names.old} and the account {names.temporary} are left of a "
                "restore; removing them needs the admin account, which is not configured any more"
            )
        await remove_leftovers(self._admin, names, with_old=state in OLD_NOT_NEEDED)
