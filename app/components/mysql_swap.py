"""The swap of a MySQL database with one beside it: finished or undone, however far it came."""

from __future__ import annotations

import logging
from typing import Any

from app.archives.streams import from_bytes
from app.components.base import RestoreContext, Settled, still_ours
from app.components.mysql_client import MysqlClient, identifier, literal
from app.components.mysql_dump import Inventory, take_inventory
from app.components.mysql_journal import OLD_NOT_NEEDED, UNSETTLED, MysqlJournal, State, unpacked
from app.components.mysql_leftovers import ScratchNames, remove_leftovers
from app.components.mysql_steps import Stepwise, drops
from app.errors import (
    ComponentError,
    DatabaseAccessDenied,
    LiberuError,
    LoadFailed,
    OperationCancelled,
    OwnershipLost,
    RestoreUnsettled,
)

log = logging.getLogger(__name__)
_OBJECTS = ("views", "routines", "triggers")


class Swap(Stepwise):
    """One RENAME swaps the tables; views, triggers, routines and events cannot move: they are dropped before it and
    created after it, from scripts that are journalled with `begun`.

    Where the marker table is, which moves last in the same RENAME, tells on which side of it we are. While the new
    tables are not all in, a restart undoes; when they are, people may have written to them: it finishes, and undoes
    only what cannot be finished. That decision is journalled (`undoing`) and stays.
    """

    FINISH = ("drop", "create", "check", "end")
    LEAVE = ("undoing", "end_undone")
    UNDO = ("undoing", "drop", "move_back", "recreate", "check_old", "end_undone")

    def __init__(self, owner: MysqlClient, admin: MysqlClient, context: RestoreContext) -> None:
        self._context = context
        self._journal = MysqlJournal.of(context)
        self._owner, self._admin = owner, admin
        self._live = owner.target.name
        self._kept: dict[str, Any] = {}
        self._recreated = False
        if self._journal.noted.get("way") == "scratch":
            self._name(ScratchNames.of(self._journal.noted))

    def _name(self, names: ScratchNames) -> None:
        self._names = names
        self._owner, self._admin = self._owner.marked(names.mark), self._admin.marked(names.mark)

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
        if not await still_ours(self._context):
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
        beside = await self._tables(self._names.scratch)
        if await self._tables(self._names.old) or not {*self._kept["new"]["tables"], self._names.marker} <= {*beside}:
            return False
        try:
            await self._check_old()
        except LoadFailed:
            return False
        return True

    # The steps of both ways out.

    async def _drop(self) -> None:
        live = await take_inventory(self._admin)
        await self._admin.ask(await self._fence() + drops(live, self._live, tables=False), database=False)

    async def _create(self) -> None:
        await self._owner.load(from_bytes(as_bytes(self._kept["redo"])))
        await self._grant_again("new")

    async def _check(self) -> None:
        await self._require("new", _OBJECTS)

    async def _end(self) -> None:
        await self._journal.move(State.DONE, tidy=True)

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
            await self._admin.ask(script + await self._fence() + rename(moves), database=False)

    async def _recreate(self) -> None:
        await self._owner.load(from_bytes(as_bytes(self._kept["undo"])))
        await self._grant_again("old")

    async def _grant_again(self, which: str) -> None:
        """What others may do with routines goes when these are dropped."""
        there, granted = set(self._kept[which]["routines"]), self._kept.get("grants", {})
        script = "\n".join(grant for routine, grants in granted.items() if routine in there for grant in grants)
        if script:
            await self._admin.ask(script, database=False)

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

    # What is asked of the server, and told.

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
        found = names_of(await take_inventory(self._admin))
        missing = [
            f"{kind} {min(gone)}" for kind in kinds if (gone := set(self._kept[which][kind]) - set(found[kind]))
        ]
        if missing:
            raise LoadFailed(f"{self._live}: not all of it is there; missing are for example: {', '.join(missing)}")

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
            f"the live database {self._live} may be incomplete: putting it right failed ({error.message}). Its "
            f"former tables are in it or in {names.old}, and the operation's journal has what recreates its views, "
            "triggers, routines and events; there is no safety copy, and none is needed. Nothing was removed; it is "
            "tried again"
        )


def names_of(found: Inventory) -> dict[str, list[str]]:
    kinds = ("tables", "views", "routines", "triggers", "events")
    return {kind: list(getattr(found, kind)) for kind in kinds}


def as_text(script: bytes) -> str:
    return script.decode("utf-8", "surrogateescape")


def as_bytes(script: str) -> bytes:
    return script.encode("utf-8", "surrogateescape")


def rename(moves: list[tuple[str, str, str]]) -> str:
    """From a database to another one, by name."""
    pairs = [
        f"{identifier(here)}.{identifier(name)} TO {identifier(there)}.{identifier(name)}"
        for here, there, name in moves
    ]
    return f"RENAME TABLE {', '.join(pairs)};"
