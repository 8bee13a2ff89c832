"""Restoring a MySQL database with an administrator: beside the live one, then swapped by one RENAME."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Report, RestoreContext, Settled
from app.components.mysql_client import Account, MysqlClient, identifier, literal
from app.components.mysql_dump import Inventory, dump_database, take_inventory
from app.components.mysql_journal import OLD_NOT_NEEDED, UNSETTLED, MysqlJournal, State, packed, unpacked
from app.components.mysql_leftovers import ScratchNames, remove_leftovers
from app.components.mysql_script import MysqlScript
from app.components.mysql_steps import Stepwise, drops, explained, ours, tables_of
from app.errors import (
    ComponentError,
    ConsentRequired,
    DatabaseAccessDenied,
    LiberuError,
    LoadFailed,
    OperationCancelled,
    OwnershipLost,
    RestoreUnsettled,
)

log = logging.getLogger(__name__)
_OBJECTS = ("views", "routines", "triggers")


class ScratchRestore(Stepwise):
    """The archive is loaded into a database of its own by an account that can reach nothing else; its views, triggers
    and routines are tried there by the owner, and so is what would recreate those of the live database. Then one
    RENAME swaps the tables.

    Where the marker table is, which moves last in the same RENAME, tells on which side of it we are. What recreates
    the views, triggers, routines and events of both is journalled with `begun`. While the new tables are not all in,
    a restart undoes; when they are, people may have written to them: it finishes, and undoes only what cannot be
    finished. That decision is journalled (`undoing`) and stays.
    """

    RUN = (
        "plan", "make", "load", "try_new", "keep", "try_old", "close", "begin", "drop", "rename", "create", "check",
        "end",
    )  # fmt: skip
    FINISH = ("drop", "create", "check", "end")
    LEAVE = ("undoing", "end_undone")
    UNDO = ("undoing", "drop", "move_back", "recreate", "check_old", "end_undone")

    def __init__(self, owner: MysqlClient, admin: MysqlClient, context: RestoreContext) -> None:
        self._context = context
        self._journal = MysqlJournal.of(context)
        self._owner, self._admin = owner, admin
        self._live = owner.target.name
        self._source: ByteStream = from_bytes(b"")
        self._script = MysqlScript()
        self._kept: dict[str, Any] = {}
        self._password = ""
        self._recreated = False
        if self._journal.noted:
            self._name(ScratchNames.of(self._journal.noted))

    def _name(self, names: ScratchNames) -> None:
        self._names = names
        self._owner, self._admin = self._owner.marked(names.mark), self._admin.marked(names.mark)

    async def run(self, source: ByteStream, report: Report) -> None:
        """Comes after `settle`. Raises LoadFailed, RestoreUnsettled, ConsentRequired, and what `source` raises."""
        self._source = source
        async with aclosing(source):
            try:
                await self.through(self.RUN)
            except BaseException as error:
                found = await asyncio.shield(self._failed(error))
                if found is error:
                    raise
                raise found from error
            if not await self._swept():
                report.warn("not_tidied", f"The former tables are still in {self._names.old}; it is tried again")

    async def _failed(self, error: BaseException) -> BaseException:
        """Put the live database back; the error with what became of it."""
        if isinstance(error, OwnershipLost) or self._journal.uncertain:
            return error  # whoever goes on finds all of it in the journal
        try:
            if self._journal.state in UNSETTLED and not await ours(self._context):
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
        names = ScratchNames.new(await _account(self._owner), (await _account(self._admin))[1])
        await self._journal.begin(State.PLANNED, **asdict(names), way="scratch")
        self._name(names)

    async def _make(self) -> None:
        live = await take_inventory(self._admin)
        self._script.mariadb = "MariaDB" in live.server
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

    async def _try_new(self) -> None:
        beside = self._names.scratch
        await self._owner.on(beside).load(from_bytes(self._script.objects))
        tried = await take_inventory(self._admin.on(beside))
        self._kept = {"new": _names_of(tried), "redo": _text(self._script.objects + self._script.events)}
        await self._admin.ask(drops(tried, beside, tables=False), database=False)
        await self._admin.on(beside).ask(f"CREATE TABLE {identifier(self._names.marker)} (done int);")

    async def _keep(self) -> None:
        """What recreates the live database's views, triggers, routines and events, tried where nothing is yet."""
        live = await take_inventory(self._admin)
        dump = await dump_database(self._admin, ["--no-data"])
        script = MysqlScript()
        refused: LiberuError | None = None
        try:
            await self._temporary(self._names.old).load(tables_of(dump.stream, script))
            dump.verify()
            await self._owner.on(self._names.old).load(from_bytes(script.objects))
        except LoadFailed as error:
            refused = error
        lacking = [f"{lack.subject}: {lack.message}" for lack in dump.report.incomplete]
        invalid = [f"{one.subject}: {one.message}" for one in dump.report.warnings if one.code == "view_invalid"]
        gone = {one.subject for one in dump.report.warnings if one.code == "view_invalid"}
        old = _names_of(live)
        old["views"] = [view for view in live.views if view not in gone]
        old["routines"] = [routine for routine in live.routines if routine.partition(" ")[2] not in live.hidden]
        self._kept |= {
            "old": old, "undo": _text(script.objects + script.events), "unmade": invalid + lacking,
            "definers": await self._other_definers(),
        }  # fmt: skip
        self._refuse(refused, lacking)

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
        await self._remove_accounts()

    async def _begin(self) -> None:
        kept = await packed(self._kept, self._live)
        await self._context.confirm()
        await self._journal.move(State.BEGUN, kept=kept)

    async def _drop(self) -> None:
        live = await take_inventory(self._admin)
        await self._admin.ask(await self._fence() + drops(live, self._live, tables=False), database=False)

    async def _rename(self) -> None:
        live = await self._tables(self._live)
        moves = [(self._live, self._names.old, name) for name in live]
        moves += [(self._names.scratch, self._live, name) for name in self._kept["new"]["tables"]]
        moves.append((self._names.scratch, self._names.old, self._names.marker))
        script = await self._fence() + "SET FOREIGN_KEY_CHECKS = 0;\n" + _rename(moves)
        await self._admin.ask(script, database=False)

    async def _create(self) -> None:
        await self._owner.load(from_bytes(_bytes(self._kept["redo"])))

    async def _check(self) -> None:
        await self._require("new", _OBJECTS)

    async def _end(self) -> None:
        await self._journal.move(State.DONE, tidy=True)

    # Putting right what was cut short.

    async def settle(self, *, undo: bool = False) -> Settled:
        """`undo`: also what could be finished. See Component.settle."""
        state = self._journal.state
        if state in UNSETTLED:
            return await self._put_right(undo=undo)
        if state is State.PLANNED or self._journal.untidy:
            await self._swept()
        if state is State.DONE:
            return Settled("done", f"{self._live} holds what was restored")
        return Settled("undone" if state is State.UNDONE else "untouched", "the live database is as it was")

    async def _put_right(self, *, undo: bool) -> Settled:
        if not await ours(self._context):
            raise OwnershipLost("Another attempt has taken this operation over")
        try:
            await self._admin.alone()
            self._kept = await unpacked(self._journal.noted["kept"])
            await self._decided(undo=undo)
        except (OwnershipLost, OperationCancelled):
            raise
        except LiberuError as error:
            raise RestoreUnsettled(self._between(error)) from error
        await self._swept()
        if self._journal.state is State.DONE:
            return Settled("done", f"{self._live} holds what was restored")
        return Settled("undone", f"the live database is as it was{self._changed()}")

    async def _decided(self, *, undo: bool) -> None:
        names = self._names
        swapped = names.marker in await self._tables(names.old)
        if self._journal.state is State.BEGUN and swapped and not undo and not await self._tables(names.scratch):
            try:
                await self.through(self.FINISH)
            except (LoadFailed, DatabaseAccessDenied):
                await self._admin.ask("DO 0;", database=False)  # refused; or is it gone?
                log.exception("The restore of %s cannot be finished: it is undone", self._live)
            else:
                return
        if self._journal.state is State.BEGUN and await self._untouched():
            await self.through(self.LEAVE)
        else:
            self._recreated = True
            await self.through(self.UNDO)

    async def _untouched(self) -> bool:
        """Nothing has moved and all is there: what the live database had, for nothing was created in it yet."""
        if await self._tables(self._names.old):
            return False
        try:
            await self._check_old()
        except LoadFailed:
            return False
        return True

    async def _undoing(self) -> None:
        if self._journal.state is State.BEGUN:
            await self._journal.move(State.UNDOING)

    async def _move_back(self) -> None:
        """Whatever moved, however far it came: a server that fell in the middle of a RENAME may have left both."""
        names, live = self._names, await self._tables(self._live)
        beside, old = await self._tables(names.scratch), await self._tables(names.old)
        new, known = set(self._kept["new"]["tables"]), set(self._kept["old"]["tables"])
        away = [name for name in live if name in old or (name in new and name not in known)]
        moves = [(self._live, names.scratch, name) for name in away if name not in beside]
        moves += [(names.old, self._live, name) for name in old if name != names.marker]
        moves += [(names.old, names.scratch, names.marker)] if names.marker in old else []
        if moves:
            script = f"CREATE DATABASE IF NOT EXISTS {identifier(names.scratch)};\nSET FOREIGN_KEY_CHECKS = 0;\n"
            await self._admin.ask(script + await self._fence() + _rename(moves), database=False)

    async def _recreate(self) -> None:
        await self._owner.load(from_bytes(_bytes(self._kept["undo"])))

    async def _check_old(self) -> None:
        await self._require("old", ("tables", *_OBJECTS, "events"))

    async def _end_undone(self) -> None:
        await self._journal.move(State.UNDONE, tidy=True)

    async def _swept(self) -> bool:
        """Remove what was made; what cannot be removed now is left to `tidy`."""
        try:
            await self._journal.again()
            await self._remove()
            await self._journal.tidied()
        except OwnershipLost:
            raise
        except LiberuError as error:
            log.warning("%s: what a restore has made could not be removed yet: %s", self._live, error.message)
            return False
        return True

    async def _remove(self) -> None:
        await remove_leftovers(self._admin, self._names, with_old=self._journal.state in OLD_NOT_NEEDED)

    async def _remove_accounts(self) -> None:
        await remove_leftovers(self._admin, self._names, with_old=False, databases=False)

    # What is asked of the server.

    async def _fence(self) -> str:
        """First of a script: a client of an attempt that is long over finds no marker where it was, and stops."""
        rows = await self._admin.ask(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES "
            f"WHERE TABLE_NAME = {literal(self._names.marker)} AND TABLE_SCHEMA IN "
            f"({literal(self._names.scratch)}, {literal(self._names.old)});",
            database=False,
        )
        if rows:
            return f"SELECT 1 FROM {identifier(rows[0][0])}.{identifier(self._names.marker)};\n"
        raise ComponentError(
            f"the table {self._names.marker} is in neither {self._names.scratch} nor {self._names.old}: somebody has "
            "removed one of them, and how far the restore came cannot be told"
        )

    async def _tables(self, database: str) -> list[str]:
        rows = await self._admin.ask(
            "SELECT TABLE_NAME FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(database)} AND TABLE_TYPE <> 'VIEW' ORDER BY TABLE_NAME;",
            database=False,
        )
        return [row[0] for row in rows]

    async def _require(self, which: str, kinds: tuple[str, ...]) -> None:
        found = _names_of(await take_inventory(self._admin))
        missing = [
            f"{kind} {min(gone)}" for kind in kinds if (gone := set(self._kept[which][kind]) - set(found[kind]))
        ]
        if missing:
            raise LoadFailed(f"{self._live}: not all of it is there; missing are for example: {', '.join(missing)}")

    async def _other_definers(self) -> list[str]:
        """Who else has defined something in the live database: after an undo it is the owner's."""
        tables = ("VIEWS.TABLE", "TRIGGERS.TRIGGER", "ROUTINES.ROUTINE", "EVENTS.EVENT")
        parts = [
            f"SELECT DEFINER FROM information_schema.{name} WHERE {column}_SCHEMA = {literal(self._live)}"
            for name, column in (table.split(".") for table in tables)
        ]
        rows = await self._admin.ask(" UNION ".join(parts) + " LIMIT 50;", database=False)
        return sorted(row[0] for row in rows if row[0] != self._names.definer)

    def _temporary(self, database: str) -> MysqlClient:
        return self._admin.on(database).as_account(Account(self._names.user, self._password))

    def _changed(self) -> str:
        """What an undo could not bring back as it was."""
        told = ""
        if not self._recreated:
            return told
        if self._kept["definers"]:
            others = ", ".join(self._kept["definers"][:5])
            told += f", but views, triggers and routines of {others} are {self._names.definer}'s now"
        if self._kept["unmade"]:
            told += f"; not created again: {'; '.join(self._kept['unmade'][:20])}"
        return told

    def _between(self, error: LiberuError) -> str:
        names = self._names
        return (
            f"the live database {self._live} is incomplete, and putting it right failed ({error.message}): its former "
            f"tables are in it or in {names.old}; what recreates its views, triggers, routines and events is in the "
            "operation's journal; there is no safety copy, and none is needed. Nothing was removed; it is tried again"
        )


def _names_of(found: Inventory) -> dict[str, list[str]]:
    kinds = ("tables", "views", "routines", "triggers", "events")
    return {kind: list(getattr(found, kind)) for kind in kinds}


def _text(script: bytes) -> str:
    return script.decode("utf-8", "surrogateescape")


def _bytes(script: str) -> bytes:
    return script.encode("utf-8", "surrogateescape")


def _rename(moves: list[tuple[str, str, str]]) -> str:
    pairs = [
        f"{identifier(here)}.{identifier(name)} TO {identifier(there)}.{identifier(name)}"
        for here, there, name in moves
    ]
    return f"RENAME TABLE {', '.join(pairs)};"


async def _account(client: MysqlClient) -> tuple[str, str]:
    rows = await client.ask("SELECT CURRENT_USER();", database=False)
    user, _, host = rows[0][0].rpartition("@")
    return user, host
