"""Restoring a MySQL database with an administrator: beside the live one, then swapped by one RENAME."""

from __future__ import annotations

import logging
import secrets
from contextlib import aclosing
from dataclasses import asdict

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Report, RestoreContext, still_ours
from app.components.mysql_client import Account, MysqlClient, identifier, literal
from app.components.mysql_dump import dump_database, take_inventory
from app.components.mysql_journal import UNSETTLED, State, packed
from app.components.mysql_leftovers import ScratchNames, remove_leftovers
from app.components.mysql_script import MysqlScript
from app.components.mysql_steps import drops, explained, tables_of, told_of
from app.components.mysql_swap import Swap, as_text, names_of, rename
from app.errors import ConsentRequired, LiberuError, LoadFailed, OwnershipLost, RestoreUnsettled

log = logging.getLogger(__name__)


class ScratchRestore(Swap):
    """The archive is loaded into a database of its own by an account that can reach nothing else; its views, triggers
    and routines are tried there by the owner, and so is what would recreate those of the live database. Then comes
    the swap."""

    RUN = (
        "plan", "make", "load", "try_new", "keep", "try_old", "close", "begin", "drop", "rename", "create", "check",
        "end",
    )  # fmt: skip

    def __init__(self, owner: MysqlClient, admin: MysqlClient, context: RestoreContext) -> None:
        super().__init__(owner, admin, context)
        self._source: ByteStream = from_bytes(b"")
        self._script = MysqlScript(self._live, foreign=context.foreign)
        self._password = ""

    async def run(self, source: ByteStream, report: Report) -> None:
        """Comes after `settle`. Raises LoadFailed, RestoreUnsettled, ConsentRequired, and what `source` raises."""
        self._source = source
        async with aclosing(source):
            await self.guarded(self.RUN)
            told_of(self._script, report)
            if not await self._swept():
                report.warn("not_tidied", f"The former tables are still in {self._names.old}; it is tried again")

    async def _failed(self, error: BaseException) -> BaseException:
        """Put the live database back; the error with what became of it."""
        if isinstance(error, OwnershipLost) or self._journal.uncertain:
            return error  # whoever goes on finds all of it in the journal
        try:
            if self._journal.state in UNSETTLED and not await still_ours(self._context):
                return error
            settled = await self.settle(undo=True)
        except LiberuError as worse:
            log.exception("Rolling back %s failed", self._live)
            if not isinstance(error, LiberuError) or isinstance(worse, OwnershipLost):
                return error
            return RestoreUnsettled(f"{getattr(error, 'message', error)}; {worse.message}")
        return explained(error, settled.detail or "the live database is as it was")

    # What a restore does, step by step. Until `begin` nothing live is touched.

    async def _plan(self) -> None:
        if self._journal.untidy or self._journal.state is State.PLANNED:
            await self._remove()  # its names would be forgotten
        names = await ScratchNames.new(self._owner.marked(""), self._admin.marked(""))
        await self._journal.begin(State.PLANNED, **asdict(names), way="scratch")
        self._name(names)

    async def _make(self) -> None:
        live = await take_inventory(self._admin)
        self._script.suits(live)
        names = self._names
        self._password = secrets.token_hex(24)
        grants = [
            f"GRANT ALL ON {identifier(database)}.* TO {account};"
            for database in (names.scratch, names.old)
            for account in (names.temporary, names.owner)
        ]
        await self._admin.ask(
            f"CREATE DATABASE {identifier(names.scratch)} CHARACTER SET {live.charset} COLLATE {live.collation};\n"
            f"CREATE DATABASE {identifier(names.old)} CHARACTER SET {live.charset} COLLATE {live.collation};\n"
            f"CREATE USER {names.temporary} IDENTIFIED BY '{self._password}';\n" + "\n".join(grants),
            database=False,
        )

    async def _load(self) -> None:
        await self._temporary(self._names.scratch).load(tables_of(self._source, self._script))
        made = names_of(await take_inventory(self._admin.on(self._names.scratch)))
        odd = [name for kind in ("views", "routines", "triggers", "events") for name in made[kind]]
        if odd:  # the temporary account's: they would go with it
            raise LoadFailed(f"{self._live}: the dump makes {', '.join(odd[:5])} in a way that is not understood")

    async def _try_new(self) -> None:
        beside = self._names.scratch
        await self._owner.on(beside).load(from_bytes(self._script.objects))
        tried = await take_inventory(self._admin.on(beside))
        script = self._script.objects + self._script.events
        self._kept = {"new": names_of(tried), "redo": await self._of_scratch() + as_text(script)}
        await self._admin.ask(drops(tried, beside, tables=False), database=False)
        await self._admin.on(beside).ask(f"CREATE TABLE {identifier(self._names.marker)} (done int);")

    async def _of_scratch(self) -> str:
        """What a RENAME leaves as it is: a default that names a sequence by its database, and a foreign key to a
        table that is not there."""
        beside = self._names.scratch
        of = literal(beside)
        prefix = identifier(beside) + "."
        lines = [
            f"ALTER TABLE {identifier(table)} ALTER {identifier(column)} SET DEFAULT {default.replace(prefix, '')};\n"
            for table, column, default in await self._admin.ask(
                "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_DEFAULT FROM information_schema.COLUMNS WHERE "
                f"TABLE_SCHEMA = {of} AND INSTR(LOWER(COLUMN_DEFAULT), CONCAT('val(', {literal(prefix)}));"
            )
        ]
        keys: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for *key, column, other in await self._admin.ask(
            "SELECT k.TABLE_NAME, k.CONSTRAINT_NAME, r.REFERENCED_TABLE_NAME, r.UPDATE_RULE, r.DELETE_RULE, "
            "k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE k "
            "JOIN information_schema.REFERENTIAL_CONSTRAINTS r ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA "
            "AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME "
            "LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = k.REFERENCED_TABLE_SCHEMA "
            "AND t.TABLE_NAME = k.REFERENCED_TABLE_NAME "
            f"WHERE k.CONSTRAINT_SCHEMA = {of} AND k.REFERENCED_TABLE_SCHEMA = {of} AND t.TABLE_NAME IS NULL "
            "ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION;"
        ):
            keys.setdefault(tuple(key), []).append((column, other))
        there = "IF EXISTS " if self._script.mariadb else ""
        default_rule = "RESTRICT" if self._script.mariadb else "NO ACTION"
        for (table, name, missing, *rules), pairs in keys.items():
            on = zip(("UPDATE", "DELETE"), rules, strict=True)
            wanted = " ".join(f"ON {event} {rule}" for event, rule in on if rule != default_rule)
            columns, others = (", ".join(map(identifier, side)) for side in zip(*pairs, strict=True))
            lines += [
                f"ALTER TABLE {identifier(table)} DROP FOREIGN KEY {there}{identifier(name)};\n",
                f"ALTER TABLE {identifier(table)} ADD CONSTRAINT {identifier(name)} FOREIGN KEY ({columns}) "
                f"REFERENCES {identifier(missing)} ({others}) {wanted};\n",
            ]
        return "SET FOREIGN_KEY_CHECKS = 0;\n" + "".join(lines) if lines else ""

    async def _keep(self) -> None:
        """What recreates the live database's views, triggers, routines and events, tried where nothing is yet."""
        live = await take_inventory(self._admin)
        dump = await dump_database(self._admin, ["--no-data"])
        script = MysqlScript(self._live)
        refused: LiberuError | None = None
        try:
            await self._temporary(self._names.old).load(tables_of(dump.stream, script))
            dump.verify()
            await self._owner.on(self._names.old).load(from_bytes(script.objects))
        except LoadFailed as error:
            refused = error
            script = await self._script_of_live()  # that one may have been cut
        lacking = [f"{lack.subject}: {lack.message}" for lack in dump.report.incomplete]
        invalid = [f"{one.subject}: {one.message}" for one in dump.report.warnings if one.code == "view_invalid"]
        gone = {one.subject for one in dump.report.warnings if one.code == "view_invalid"}
        old = names_of(live)
        old["views"] = [view for view in live.views if view not in gone]
        old["routines"] = [routine for routine in live.routines if routine.partition(" ")[2] not in live.hidden]
        self._kept |= {
            "old": old, "undo": as_text(script.objects + script.events), "unmade": invalid + lacking,
            "definers": await self._other_definers(), "grants": await self._grants(),
        }  # fmt: skip
        self._refuse(refused, lacking)

    async def _script_of_live(self) -> MysqlScript:
        script = MysqlScript(self._live)
        dump = await dump_database(self._admin, ["--no-data"])
        async for _ in tables_of(dump.stream, script):
            pass
        dump.verify()
        return script

    def _refuse(self, refused: LiberuError | None, lacking: list[str]) -> None:
        if self._context.allow_without_safety_copy or not (refused or lacking):
            return
        reason = refused.message if refused else "; ".join(lacking[:5])
        raise ConsentRequired(
            f"{self._live}: {self._owner.account.username} could not create its present views, triggers and routines "
            f"again, should the restore have to be undone ({reason}). Nothing was changed; give the account the "
            "right, drop what is in the way, or set allow_without_safety_copy"
        ) from refused

    async def _try_old(self) -> None:
        """Empty again the database that the old tables will move to."""
        old = self._names.old
        await self._admin.ask(drops(await take_inventory(self._admin.on(old)), old, tables=True), database=False)

    async def _close(self) -> None:
        """From here on nobody but the administrator reaches what was made."""
        await remove_leftovers(self._admin, self._names, with_old=False, databases=False)

    async def _begin(self) -> None:
        kept = await packed(self._kept, self._live)
        await self._context.confirm()
        await self._journal.move(State.BEGUN, kept=kept)

    async def _rename(self) -> None:
        live = await self._tables(self._live)
        moves = [(self._live, self._names.old, name) for name in live]
        moves += [(self._names.scratch, self._live, name) for name in self._kept["new"]["tables"]]
        moves.append((self._names.scratch, self._names.old, self._names.marker))
        script = await self._fence() + "SET FOREIGN_KEY_CHECKS = 0;\n" + rename(moves)
        await self._admin.ask(script, database=False)

    async def _other_definers(self) -> list[str]:
        """Who else has defined something in the live database: after an undo it is the owner's."""
        tables = ("VIEWS.TABLE", "TRIGGERS.TRIGGER", "ROUTINES.ROUTINE", "EVENTS.EVENT")
        parts = [
            f"SELECT DEFINER FROM information_schema.{name} WHERE {column}_SCHEMA = {literal(self._live)}"
            for name, column in (table.split(".") for table in tables)
        ]
        rows = await self._admin.ask(" UNION ".join(parts) + " LIMIT 50;", database=False)
        return sorted(row[0] for row in rows if row[0] != self._names.definer)

    async def _grants(self) -> dict[str, list[str]]:
        """By routine, what gives others their rights on it again."""
        found: dict[str, list[str]] = {}
        for host, user, routine, kind, rights in await self._admin.ask(
            "SELECT Host, User, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv "
            f"WHERE Db = {literal(self._live)} AND Routine_type IN ('PROCEDURE', 'FUNCTION');",
            database=False,
        ):
            given = [right for right in rights.upper().split(",") if right in {"EXECUTE", "ALTER ROUTINE"}]
            option = " WITH GRANT OPTION" if "GRANT" in rights.upper().split(",") else ""
            whom = identifier(user) + (f"@{identifier(host)}" if host else "")
            found.setdefault(f"{kind} {routine}", []).append(
                f"GRANT {', '.join(given) or 'USAGE'} ON {kind} {identifier(self._live)}.{identifier(routine)} "
                f"TO {whom}{option};"
            )
        return found

    def _temporary(self, database: str) -> MysqlClient:
        return self._admin.on(database).as_account(Account(self._names.user, self._password))
