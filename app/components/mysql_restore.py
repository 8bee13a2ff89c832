"""Restoring a MySQL or MariaDB database: beside the live one and swapped, or in place after a safety copy."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from contextlib import aclosing

from app.archives.streams import ByteStream, Sink, SourceReader, from_bytes, transform
from app.components.base import RestoreContext
from app.components.mysql_client import Account, MysqlClient, identifier, literal
from app.components.mysql_dump import Inventory, dump_database, take_inventory
from app.components.mysql_script import MysqlScript
from app.errors import ComponentError, ConsentRequired, LiberuError, LoadFailed, OperationCancelled, OwnershipLost

log = logging.getLogger(__name__)

_MARKER = "liberu-swapped"


def _tables_of(source: ByteStream, script: MysqlScript) -> ByteStream:
    """What of a dump makes tables; when it has ended, `script` holds the rest."""

    def work(reader: SourceReader, sink: Sink) -> None:
        for chunk in reader.chunks():
            for passed in script.feed(chunk):
                sink.write(passed)
        script.finish()

    return transform(source, work, "mysql script")


def _drops(found: Inventory, database: str, *, tables: bool) -> str:
    prefix = identifier(database) + "."
    lines = ["SET FOREIGN_KEY_CHECKS = 0;"]
    lines += [f"DROP TRIGGER IF EXISTS {prefix}{identifier(name)};" for name in found.triggers]
    lines += [f"DROP EVENT IF EXISTS {prefix}{identifier(name)};" for name in found.events]
    for routine in found.routines:
        kind, _, name = routine.partition(" ")
        if kind == "PACKAGE" and name.startswith("BODY "):
            continue  # goes with its package
        lines.append(f"DROP {kind} IF EXISTS {prefix}{identifier(name)};")
    lines += [f"DROP VIEW IF EXISTS {prefix}{identifier(name)};" for name in found.views]
    if tables:
        lines += [f"DROP TABLE IF EXISTS {prefix}{identifier(name)};" for name in found.tables]
    return "\n".join(lines)


async def _ours(context: RestoreContext) -> bool:
    """Whether this attempt may still put things right: cancelled, yes; taken over by another, no."""
    try:
        await context.confirm()
    except OperationCancelled:
        return True
    except OwnershipLost:
        return False
    return True


class ScratchRestore:
    """With an administrator. The archive is loaded into a database of its own by an account that can reach
    nothing else; its views, triggers and routines are tried there by the owner; then one RENAME swaps the tables.

    Journal: `phase` is `swap` from right before the live database is touched; `undo` is what recreates its views,
    triggers and routines. A restart finds out from the marker table, which moves in the same RENAME, on which
    side of it the kill was, and goes on.
    """

    def __init__(self, owner: MysqlClient, admin: MysqlClient, context: RestoreContext) -> None:
        tag = hashlib.sha256(context.operation.encode()).hexdigest()[:16]
        self._owner = owner
        self._admin = admin
        self._context = context
        self._live = owner.target.name
        self._scratch = f"liberu-new-{tag}"  # no underscore: a wildcard in GRANT
        self._old = f"liberu-old-{tag}"
        self._user = f"liberu-{tag}"

    async def run(self, source: ByteStream) -> None:
        async with aclosing(source):
            try:
                await self._run(source)
            except BaseException as error:
                outcome = await asyncio.shield(self._put_back())
                if isinstance(error, ComponentError):
                    raise LoadFailed(f"{error.message}; {outcome}") from error
                raise
            await self._clean(done=True)

    async def _run(self, source: ByteStream) -> None:
        script = MysqlScript()
        if await self._swapped():
            async for _ in _tables_of(source, script):
                pass
        else:
            await self._clean()
            await self._load(source, script)
            await self._swap()
        created = script.objects + script.events
        await self._owner.load(from_bytes(created))

    async def _load(self, source: ByteStream, script: MysqlScript) -> None:
        live = await take_inventory(self._admin)
        script.mariadb = "MariaDB" in live.server
        host = identifier(await self._host(self._admin))
        password = secrets.token_hex(24)
        scratch, temporary = identifier(self._scratch), f"{identifier(self._user)}@{host}"
        owner = await self._owner_account()
        await self._admin.ask(
            f"CREATE DATABASE {scratch} CHARACTER SET {live.charset} COLLATE {live.collation};\n"
            f"CREATE DATABASE {identifier(self._old)};\n"
            f"CREATE USER {temporary} IDENTIFIED BY '{password}';\n"
            f"GRANT ALL ON {scratch}.* TO {temporary};\nGRANT ALL ON {scratch}.* TO {owner};\n",
            database=False,
        )
        beside = self._admin.on(self._scratch)
        await beside.as_account(Account(self._user, password)).load(_tables_of(source, script))
        await self._owner.on(self._scratch).load(from_bytes(script.objects))
        tried = await take_inventory(beside)
        await self._admin.ask(_drops(tried, self._scratch, tables=False), database=False)
        await beside.ask(f"CREATE TABLE {identifier(_MARKER)} (done int);")

    async def _swap(self) -> None:
        live = await take_inventory(self._admin)
        undo = self._context.journal.get("undo")
        if undo is None:
            undo = await self._undo_script()
        await self._context.confirm()
        await self._context.record({"phase": "swap", "undo": undo})
        fresh = await take_inventory(self._admin.on(self._scratch))
        moves = [(self._live, self._old, name) for name in live.tables]
        moves += [(self._scratch, self._old if name == _MARKER else self._live, name) for name in fresh.tables]
        await self._admin.ask(f"{_drops(live, self._live, tables=False)}\n{_rename(moves)}", database=False)

    async def _undo_script(self) -> str:
        dump = await dump_database(self._admin, ["--no-data"])
        script = MysqlScript()
        async for _ in _tables_of(dump.stream, script):
            pass
        dump.verify()
        return (script.objects + script.events).decode("utf-8", "surrogateescape")

    async def _put_back(self) -> str:
        try:
            await self._roll_back()
        except LiberuError as error:
            log.exception("Rolling back %s failed", self._live)
            return f"putting the live database back failed ({error.message}): look for its tables in {self._old}"
        return "the live database is as it was"

    async def _roll_back(self) -> None:
        """Put the live database back as it was before the swap began; nothing when it had not."""
        undo = self._context.journal.get("undo")
        if undo is not None:
            if not await _ours(self._context):
                return
            if await self._swapped():
                new, old = await take_inventory(self._admin), await take_inventory(self._admin.on(self._old))
                moves = [(self._live, self._scratch, name) for name in new.tables]
                moves += [(self._old, self._scratch if name == _MARKER else self._live, name) for name in old.tables]
                drops = _drops(new, self._live, tables=False)
                await self._admin.ask(f"{drops}\n{_rename(moves)}", database=False)
            else:
                now = await take_inventory(self._admin)
                await self._admin.ask(_drops(now, self._live, tables=False), database=False)
            await self._owner.load(from_bytes(undo.encode("utf-8", "surrogateescape")))
        await self._clean()

    async def _swapped(self) -> bool:
        rows = await self._admin.ask(
            "SELECT COUNT(*) FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(self._old)} AND TABLE_NAME = {literal(_MARKER)};",
            database=False,
        )
        return rows == [["1"]]

    async def _clean(self, *, done: bool = False) -> None:
        """Remove what the restore made. The old tables go only when the new ones are whole and in place."""
        rows = await self._admin.ask(
            "SELECT COUNT(*) FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(self._old)} AND TABLE_NAME <> {literal(_MARKER)};",
            database=False,
        )
        drop_old = f"DROP DATABASE IF EXISTS {identifier(self._old)};\n" if done or rows == [["0"]] else ""
        scratch = identifier(self._scratch)
        host = identifier(await self._host(self._admin))
        await self._admin.ask(
            f"SET FOREIGN_KEY_CHECKS = 0;\nDROP DATABASE IF EXISTS {scratch};\n{drop_old}"
            f"DROP USER IF EXISTS {identifier(self._user)}@{host};\n",
            database=False,
        )
        # Fails when there is no such grant; there is nothing to remove then.
        await self._admin.execute(f"REVOKE ALL ON {scratch}.* FROM {await self._owner_account()};", database=False)

    async def _owner_account(self) -> str:
        rows = await self._owner.ask("SELECT CURRENT_USER();")
        user, _, host = rows[0][0].rpartition("@")
        return f"{identifier(user)}@{identifier(host)}"

    async def _host(self, client: MysqlClient) -> str:
        rows = await client.ask("SELECT CURRENT_USER();", database=False)
        return rows[0][0].rpartition("@")[2]


def _rename(moves: list[tuple[str, str, str]]) -> str:
    pairs = [
        f"{identifier(here)}.{identifier(name)} TO {identifier(there)}.{identifier(name)}"
        for here, there, name in moves
    ]
    return f"RENAME TABLE {', '.join(pairs)};"


class InPlaceRestore:
    """Without an administrator: a safety copy is stored first; a failure loads it back.

    Journal: `phase` is `in_place` from right before the live database is touched; a restart loads the archive
    again from its beginning.
    """

    def __init__(self, owner: MysqlClient, context: RestoreContext) -> None:
        self._owner = owner
        self._context = context
        self._name = owner.target.name

    async def run(self, source: ByteStream) -> None:
        async with aclosing(source):
            if self._context.journal.get("phase") != "in_place":
                await self._safeguard()
                try:
                    await self._context.confirm()
                except OwnershipLost:
                    raise
                except LiberuError:
                    await self._context.safety.discard()
                    raise
                await self._context.record({"phase": "in_place"})
            try:
                await self._replace(source)
            except BaseException as error:
                outcome = await asyncio.shield(self._roll_back())
                if isinstance(error, LiberuError) and not isinstance(error, OwnershipLost | OperationCancelled):
                    raise LoadFailed(f"{error.message}; {outcome}") from error
                raise
        await self._context.safety.discard()

    async def _safeguard(self) -> None:
        try:
            await self._context.safety.store()
        except LiberuError as error:
            await self._context.safety.discard()
            if not self._context.allow_without_safety_copy:
                reason = f"no whole safety copy of the live database could be made ({error.message})"
                raise ConsentRequired(
                    f"{self._name}: {reason}. Nothing "
                    "was changed; set allow_without_safety_copy to go on without one, or configure an admin account"
                ) from error

    async def _replace(self, source: ByteStream) -> None:
        live = await take_inventory(self._owner)
        await self._owner.ask(_drops(live, self._name, tables=True))
        script = MysqlScript()
        script.mariadb = "MariaDB" in live.server
        await self._owner.load(_tables_of(source, script))
        await self._owner.load(from_bytes(script.objects + script.events))

    async def _roll_back(self) -> str:
        if not await _ours(self._context):
            return "another attempt goes on with it"
        if not self._context.safety.stored:
            return "there was no safety copy: the database is incomplete, restore it again"
        try:
            await self._replace(self._context.safety.open())
        except LiberuError as error:
            kept = f"it is kept as {self._context.safety.name}"
            return f"putting the safety copy back failed as well ({error.message}): {kept}"
        await self._context.safety.discard()
        return "the live database was put back from its safety copy"
