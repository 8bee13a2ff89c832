"""Loading a stored dump of MySQL or MariaDB into a scratch database, as a restore would, to see that it can be."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Proof, Report, RestoreContext
from app.components.mysql_client import MysqlClient, identifier
from app.components.mysql_contents import DumpContents
from app.components.mysql_dump import Inventory, take_inventory
from app.components.mysql_scratch import ScratchRestore
from app.components.server_disk import free_bytes
from app.errors import ArchiveError, ComponentError, LoadFailed, ProofImpossible

#: No room, too many connections or changes, stopped, shut down, gone; a binary log for which it trusts nobody's
#: functions and triggers: nothing that the dump could help.
_SERVERS = re.compile(
    r"ERROR (?:1021|1040|1041|1053|1114|1129|1135|1203|1205|1213|1226|1317|1418|1419"
    r"|1927|1969|2002|2003|2006|2013|3024)\b"
)
#: They keep no rows of their own, or none that a dump has.
_ELSEWHERE = ("MRG_", "FEDERATED", "BLACKHOLE", "CONNECT", "SPIDER", "OQGRAPH")
_AT_ONCE = 200
#: Whether a restore could be done at all.
Preflight = Callable[[RestoreContext, int], Awaitable[str]]


class _Loading(ScratchRestore):
    """A restore up to where the live database would be touched."""

    STEPS = ("plan", "make", "load", "try_new")

    async def run(self, source: ByteStream, report: Report) -> None:
        """Raises what a restore raises; what was made is left to `tidy`."""
        self._source = source
        async with aclosing(source):
            await self.through(self.STEPS)

    async def make_events(self) -> None:
        """As whoever can reach nothing else: the server may run them."""
        if self._script.events:
            await self._temporary(self._names.scratch).load(from_bytes(self._script.events))

    @property
    def scratch(self) -> str:
        return self._names.scratch

    @property
    def objects(self) -> Mapping[str, Sequence[str]]:
        """What was made, by kind; before views, triggers and routines were removed again."""
        found: Mapping[str, Sequence[str]] = self._kept["new"]
        return found


class MysqlProof(Proof):
    """`contents`: of the dump as it passed: the programs share their snapshots with nobody."""

    def __init__(self, owner: MysqlClient, admin: MysqlClient, contents: DumpContents, preflight: Preflight) -> None:
        self._owner = owner
        self._admin = admin
        self._contents = contents
        self._preflight = preflight

    async def room(self) -> int | None:
        [[folder]] = await self._admin.ask("SELECT @@datadir;", database=False)
        target = self._admin.target
        return await free_bytes(self._admin.deployment, None if target.socket else target.host, folder)

    async def load(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        report = Report()
        loading = _Loading(self._owner, self._admin, context)
        async with aclosing(source):
            try:
                await self._preflight(context, plain_size)
            except ComponentError as error:
                raise ProofImpossible(error.message) from error
            try:
                await loading.run(source, report)
                found = await take_inventory(self._admin.on(loading.scratch))
                rows = await self._counted(loading.scratch, found)
                await loading.make_events()
                found = await take_inventory(self._admin.on(loading.scratch))
            except LoadFailed as error:
                await self._blame(error)
                told = error.message.replace(loading.scratch, self._owner.target.name)
                report.lack("not_loadable", f"The dump does not load: {told}", self._owner.target.name)
                return report
            except ArchiveError:
                raise
            except ComponentError as error:
                raise ProofImpossible(error.message) from error
        self._compare(loading.objects, found.events, rows, report)
        return report

    async def _blame(self, error: LoadFailed) -> None:
        """Raises ProofImpossible when it is the server that could not."""
        if _SERVERS.search(error.message):
            raise ProofImpossible(error.message) from error
        try:
            await self._admin.ask("DO 0;", database=False)
        except ComponentError as gone:
            raise ProofImpossible(gone.message) from error

    def _compare(
        self, objects: Mapping[str, Sequence[str]], events: list[str], rows: Mapping[str, int], report: Report
    ) -> None:
        made = Inventory(
            tables=dict.fromkeys(objects["tables"], ""),
            views=[*objects["views"]],
            routines=[*objects["routines"]],
            triggers=[*objects["triggers"]],
            events=events,
        )
        for kind, name in sorted(self._contents.made - set(made.named())):
            report.lack("not_loadable", f"The dump makes the {kind.lower()}, and it is not there once loaded", name)
        for table, count in rows.items():
            if count != (wanted := self._contents.rows[table]):
                report.lack("rows_differ", f"The dump has {wanted} rows of it, and {count} were loaded", table)

    async def _counted(self, scratch: str, found: Inventory) -> dict[str, int]:
        """Rows by table, history included."""
        tables = [
            name
            for name, engine in found.tables.items()
            if engine and not engine.upper().startswith(_ELSEWHERE) and (("table", name) in self._contents.made)
        ]
        counts: dict[str, int] = {}
        for start in range(0, len(tables), _AT_ONCE):
            parts = [
                f"SELECT {number}, COUNT(*) FROM {identifier(tables[number])}"
                + (" FOR SYSTEM_TIME ALL" if tables[number] in found.versioned else "")
                for number in range(start, min(start + _AT_ONCE, len(tables)))
            ]
            for number, count in await self._admin.on(scratch).ask(" UNION ALL ".join(parts) + ";"):
                counts[tables[int(number)]] = int(count)
        return counts
