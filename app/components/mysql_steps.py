"""What both ways of restoring a MySQL database share: their steps, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.archives.streams import ByteStream, Sink, SourceReader, transform
from app.components.base import Report
from app.components.mysql_client import identifier
from app.components.mysql_dump import Inventory
from app.components.mysql_script import MysqlScript
from app.errors import ComponentError, LiberuError, LoadFailed, OperationCancelled, OwnershipLost


class Stepwise:
    """Goes through its steps by name; each is a method `_<name>` and can be cut short anywhere."""

    async def through(self, steps: Sequence[str]) -> None:
        for name in steps:
            await self.do(name)

    async def guarded(self, steps: Sequence[str]) -> None:
        """As `through`; whatever stops it is put right at once, and the error tells what became of what is live."""
        try:
            await self.through(steps)
        except BaseException as error:
            found = await asyncio.shield(self._failed(error))
            if found is error:
                raise
            raise found from error

    async def _failed(self, error: BaseException) -> BaseException:
        """Put the live database right; the error with what became of it."""
        return error

    async def do(self, name: str) -> None:
        await getattr(self, f"_{name}")()


def tables_of(source: ByteStream, script: MysqlScript) -> ByteStream:
    """What of a dump makes tables; when it has ended, `script` holds the rest."""

    def work(reader: SourceReader, sink: Sink) -> None:
        for chunk in reader.chunks():
            for passed in script.feed(chunk):
                sink.write(passed)
        for passed in script.finish():
            sink.write(passed)

    return transform(source, work, "mysql script")


def told_of(script: MysqlScript, report: Report) -> None:
    """What of a dump was not as a dump of ours is."""
    if script.unmarked:
        report.warn("no_end_marker", "The dump has no end marker; that it is whole is known from its archive alone")
    for label in script.elsewhere:
        if label.startswith("EVENT "):
            told = "It names the database that was backed up, and would change that one by itself: left out"
            report.warn("event_left_out", told, label)
        else:
            told = "It names the database that was backed up, and reads or changes that one, if its account may"
            report.warn("names_other_database", told, label)
    for statement in script.left_out:
        report.warn("left_out", "Was not run: it is about the server's log, and changes no data", statement)


def drops(found: Inventory, database: str, *, tables: bool) -> str:
    prefix = identifier(database) + "."
    lines = ["SET FOREIGN_KEY_CHECKS = 0;"]
    lines += [f"DROP TRIGGER IF EXISTS {prefix}{identifier(name)};" for name in found.triggers]
    lines += [f"DROP EVENT IF EXISTS {prefix}{identifier(name)};" for name in found.events]
    for routine in found.routines:
        kind, _, name = routine.partition(" ")
        if kind == "PACKAGE" and name.startswith("BODY "):
            continue  # goes with its package
        drop = f"DROP {kind} IF EXISTS {prefix}{identifier(name)};"
        if kind == "PACKAGE":  # known in Oracle's mode alone
            drop = f"SET @mode = @@sql_mode; SET sql_mode = ORACLE; {drop} SET sql_mode = @mode;"
        lines.append(drop)
    lines += [f"DROP VIEW IF EXISTS {prefix}{identifier(name)};" for name in found.views]
    if tables:
        lines += [f"DROP TABLE IF EXISTS {prefix}{identifier(name)};" for name in found.tables]
    return "\n".join(lines)


def explained(error: BaseException, outcome: str) -> BaseException:
    """An error of a restore with what became of the live database; what tells the caller to stop stays as it is."""
    if not isinstance(error, LiberuError) or isinstance(error, OwnershipLost | OperationCancelled):
        return error
    if isinstance(error, ComponentError):
        return LoadFailed(f"{error.message}; {outcome}")
    error.message = f"{error.message}; {outcome}"
    error.args = (error.message,)
    return error
