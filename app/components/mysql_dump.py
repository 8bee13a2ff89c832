"""Dumping a MySQL or MariaDB database: what there is, what cannot be had, and proof that all of it came."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import accumulate

from app.archives.streams import ByteStream
from app.components.base import POSITION, Dump, Report
from app.components.mysql_client import MysqlClient, identifier
from app.components.mysql_contents import DumpContents
from app.components.mysql_position import DumpPosition
from app.deployments.base import Outcome
from app.errors import CommandFailed, ComponentError, DeploymentError, DumpIncomplete

log = logging.getLogger(__name__)

#: A table with its database, as the server writes a view's definition.
_READ = re.compile(r"\b(?:from|join)\s*\(*\s*`((?:[^`]|``)+)`\.`((?:[^`]|``)+)`", re.IGNORECASE)
_TRANSACTIONAL = {"INNODB", "XTRADB", "ROCKSDB", "TOKUDB", ""}
_HIDDEN = re.compile(r"insufficient privileges to SHOW CREATE (?:FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) `")
#: Not the database, not the table, not all its columns.
_MAY_NOT_READ = {"1044", "1142", "1143"}
_ERROR = re.compile(r"^ERROR (\d+) .*? at line (\d+): (.*)$", re.MULTILINE)
#: "View references invalid table(s)…", "The user specified as a definer … does not exist", no such column or table.
_INVALID = {"1054", "1146", "1356", "1449"}

#: Large statements load fastest; each with what is around it has to fit into a packet of the server it comes from.
_STATEMENT, _SMALLEST, _AROUND = 8 << 20, 4 << 10, 4 << 10

_INVENTORY = """
SELECT 'server', VERSION(), @@max_allowed_packet UNION ALL
SELECT 'charset', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA
  WHERE SCHEMA_NAME = DATABASE() UNION ALL
SELECT IF(TABLE_TYPE = 'VIEW', 'view', 'table'), TABLE_NAME, IF(TABLE_TYPE = 'SEQUENCE', '', IFNULL(ENGINE, ''))
  FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() UNION ALL
SELECT 'routine', CONCAT(ROUTINE_TYPE, ' ', ROUTINE_NAME), IF(ROUTINE_DEFINITION IS NULL, 'hidden', '')
  FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() UNION ALL
SELECT 'trigger', TRIGGER_NAME, '' FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() UNION ALL
SELECT 'event', EVENT_NAME, '' FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE() UNION ALL
SELECT 'versioned', TABLE_NAME, '' FROM information_schema.TABLES
  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'SYSTEM VERSIONED' UNION ALL
SELECT IF(DATA_TYPE = 'float', 'rounded', 'generated'), TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS
  WHERE TABLE_SCHEMA = DATABASE() AND (DATA_TYPE = 'float' AND NUMERIC_SCALE IS NULL
  OR EXTRA LIKE '%VIRTUAL GENERATED%' OR EXTRA LIKE '%STORED GENERATED%');
"""


@dataclass(slots=True)
class Inventory:
    """What an account sees in a database. `packet`: max_allowed_packet in bytes; `tables`: name and engine;
    `routines`: kind and name, as SQL has it; `versioned`: tables; `generated`, `rounded`: the tables of such columns,
    of which the latter are printed with six digits."""

    server: str = ""
    packet: int = 0
    charset: str = ""
    collation: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)
    routines: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    versioned: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, object]:
        counts = {kind: len(getattr(self, kind)) for kind in ("tables", "views", "routines", "triggers", "events")}
        counts["functions"] = sum(routine.startswith("FUNCTION ") for routine in self.routines)
        counts["generated"] = len(self.generated)
        return {"server": self.server, "charset": self.charset, "collation": self.collation, **counts}

    def named(self) -> list[tuple[str, str]]:
        """Kind and name of each object, as DumpContents has them."""
        found = [("table", name) for name in self.tables] + [("view", name) for name in self.views]
        for routine in self.routines:
            kind, _, name = routine.partition(" ")
            body = name.startswith("BODY ") and kind == "PACKAGE"
            found.append(("PACKAGE BODY", name.removeprefix("BODY ")) if body else (kind, name))
        found += [("trigger", name) for name in self.triggers] + [("event", name) for name in self.events]
        return found

    @property
    def mariadb(self) -> bool:
        return "MariaDB" in self.server


async def take_inventory(client: MysqlClient) -> Inventory:
    found = Inventory()
    for kind, name, extra in await client.ask(_INVENTORY):
        if kind == "server":
            found.server, found.packet = name, int(extra)
        elif kind == "charset":
            found.charset, found.collation = name, extra
        elif kind == "table":
            found.tables[name] = extra
        elif kind in {"versioned", "generated", "rounded"}:
            getattr(found, kind).append(name)
        else:
            getattr(found, f"{kind}s").append(name)
        if extra == "hidden":
            found.hidden.append(name)
    return found


class _Watch:
    """Looks at a dump as it passes: what it makes, its end marker, and at the end how the command ended."""

    def __init__(self, name: str, contents: DumpContents, outcome: Outcome) -> None:
        self._name = name
        self._contents = contents
        self._outcome = outcome
        self._tail = b"\n"
        self._line = 0
        self.longest = 0  #: of the lines that did not come in one piece, in bytes

    def see(self, chunk: bytes) -> None:
        self._contents.feed(chunk)
        self._tail = (self._tail + chunk[-256:])[-256:]
        begun = chunk.find(b"\n")
        self.longest = max(self.longest, self._line + (begun if begun >= 0 else len(chunk)))
        self._line = self._line + len(chunk) if begun < 0 else len(chunk) - chunk.rfind(b"\n") - 1

    def verify(self) -> None:
        lines = [line for line in self._outcome.stderr.splitlines() if line.strip()]
        if self._outcome.status != 0 and not (lines and all(_HIDDEN.search(line) for line in lines)):
            raise CommandFailed("the dump command", self._outcome.status or -1, self._outcome.stderr[-1500:])
        if b"\n-- Dump completed" not in self._tail or not self._tail.endswith(b"\n"):
            raise DumpIncomplete(f"The dump of {self._name} has no end marker: it was cut")


async def dump_database(
    client: MysqlClient, narrowed: Sequence[str] = (), contents: DumpContents | None = None
) -> Dump:
    """`narrowed`: options that narrow what is dumped. `contents`: is fed with it. Raises the database's errors."""
    report = Report()
    name = client.target.name
    inventory = await take_inventory(client)
    invalid = await _invalid_views(client, inventory.views, report)
    for table, engine in inventory.tables.items():
        if engine.upper() not in _TRANSACTIONAL:
            report.warn("not_transactional", f"A {engine} table: it may hold changes made during the dump", table)
    for routine in inventory.hidden:
        report.lack(
            "routine_hidden",
            f"{client.account.username} may not see its definition; configure an admin account",
            routine,
        )
    report.facts.update(inventory.facts())
    for table in dict.fromkeys(inventory.rounded):
        report.warn("float_rounded", "Has a FLOAT, of which the dump program prints six digits and no more", table)
    if not narrowed:
        await _keys_required(client, report)
        await _keys_elsewhere(client, report)
        if inventory.views:
            await _views_elsewhere(client, report)
    tools = ("mariadb-dump", "mysqldump") if inventory.mariadb else ("mysqldump", "mariadb-dump")
    tool, mariadb = await client.tool(*tools)
    if mariadb and not inventory.mariadb:
        report.warn("dump_program", "The server is MySQL's, and there is only MariaDB's program: install mysqldump")
        for table in () if narrowed else dict.fromkeys(inventory.generated):
            report.lack("dump_program", "MariaDB's program dumps its generated columns' values", table)
    argv = ["--single-transaction", "--routines", "--triggers", "--events", "--hex-blob"]
    argv += ["--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--no-tablespaces", *narrowed]
    position = DumpPosition(client)
    if not narrowed:
        argv += await position.begin(mariadb=mariadb and inventory.mariadb)
    argv += [f"--net-buffer-length={max(_SMALLEST, min(_STATEMENT, inventory.packet - _AROUND))}"]
    argv += [] if mariadb else ["--set-gtid-purged=OFF"]
    argv += ["--loose-dump-history"] if inventory.versioned else []
    argv += ["--force"] if inventory.hidden else []
    argv += [f"--ignore-table={name}.{view}" for view in invalid]
    outcome = Outcome()
    contents = contents or DumpContents()
    watch = _Watch(name, contents, outcome)

    async def stream() -> ByteStream:
        async with aclosing(client.dumped([tool, *argv, "--", name], outcome, watch.see)) as output:
            async for chunk in output:
                position.see(chunk)
                yield chunk
        if outcome.status and not inventory.hidden:
            raise client.explained(outcome.stderr)
        if "unknown option '--loose-dump-history'" in outcome.stderr:
            for table in inventory.versioned:
                report.lack("history_left_out", "The dump program is too old to dump its history", table)
        if watch.longest > inventory.packet:
            await _too_long(client, report)
        if not narrowed:
            await _compared(client, inventory, contents, invalid, report)
        if (found := await position.found()) is not None:
            report.facts[POSITION] = found

    return Dump(stream(), report, watch.verify)


async def _compared(
    client: MysqlClient, before: Inventory, contents: DumpContents, invalid: Sequence[str], report: Report
) -> None:
    """Name what the database has, and the dump does not make."""
    made = contents.made | {("view", view) for view in invalid}  # which were named
    lacking = [
        (kind, name)
        for kind, name in before.named()
        if (kind, name) not in made and f"{kind} {name}" not in before.hidden
    ]
    if lacking:  # others may have removed it before the dump's snapshot, which the program shows nobody
        try:
            after = set((await take_inventory(client)).named())
        except (ComponentError, DeploymentError) as error:
            log.warning("What %s lacks could not be looked at again: %s", client.target.name, error)
        else:
            lacking = [one for one in lacking if one in after]
    for kind, name in lacking:
        report.lack("not_in_dump", f"The {kind.lower()} is in the database, and the dump does not make it", name)
    if not lacking:
        report.facts["proved"] = "listed"


async def _keys_required(client: MysqlClient, report: Report) -> None:
    """Tables that the server would not have made again: they were there before it required keys."""
    required = await client.ask(
        "SHOW VARIABLES WHERE Variable_name IN ('innodb_force_primary_key', 'sql_require_primary_key') "
        "AND Value = 'ON';"
    )
    if not required:
        return
    for (table,) in await client.ask(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE NOT IN "
        "('VIEW', 'SEQUENCE') AND TABLE_NAME NOT IN (SELECT TABLE_NAME FROM information_schema.STATISTICS WHERE "
        "TABLE_SCHEMA = DATABASE() AND INDEX_NAME = 'PRIMARY');"
    ):
        report.lack("key_required", f"Has no primary key, which the server requires: {required[0][0]}", table)


async def _keys_elsewhere(client: MysqlClient, report: Report) -> None:
    """Tables that refer to another database, where the account has no right to."""
    for table, other in await client.ask(
        "SELECT DISTINCT k.TABLE_NAME, k.REFERENCED_TABLE_SCHEMA FROM information_schema.KEY_COLUMN_USAGE k WHERE "
        "k.TABLE_SCHEMA = DATABASE() AND k.REFERENCED_TABLE_SCHEMA <> DATABASE() AND NOT EXISTS (SELECT 1 FROM "
        "information_schema.SCHEMA_PRIVILEGES p WHERE p.TABLE_SCHEMA = k.REFERENCED_TABLE_SCHEMA "
        "AND PRIVILEGE_TYPE = 'REFERENCES' "
        "AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), ''''));"
    ):
        report.lack(
            "foreign_key_elsewhere",
            f"Has a foreign key into the database {other}, which the account of this one alone cannot create again",
            table,
        )


async def _views_elsewhere(client: MysqlClient, report: Report) -> None:
    """Views on tables of other databases that the account may not read: somebody with more rights made them."""
    reads: dict[str, tuple[str, str]] = {}
    for view, definition in await client.ask(
        "SELECT TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE();"
    ):
        for database, table in _READ.findall(definition):
            if database != client.target.name:
                reads.setdefault(f"SELECT 1 FROM `{database}`.`{table}` LIMIT 0;", (view, f"{database}.{table}"))
    for number, statement, _ in await _errors(client, list(reads)):
        if number in _MAY_NOT_READ:
            view, table = reads[statement]
            report.lack(
                "view_elsewhere",
                f"Reads {table}, which the account of this database may not: it alone cannot make the view again",
                view,
            )


async def _too_long(client: MysqlClient, report: Report) -> None:
    """Values that the server holds and would not take again: its max_allowed_packet was larger when they came."""
    columns: dict[str, list[str]] = {}
    for table, column in await client.ask(
        "SELECT c.TABLE_NAME, c.COLUMN_NAME FROM information_schema.COLUMNS c JOIN information_schema.TABLES t "
        "USING (TABLE_SCHEMA, TABLE_NAME) WHERE c.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE <> 'VIEW' "
        "AND (c.CHARACTER_OCTET_LENGTH >= @@max_allowed_packet OR c.CHARACTER_OCTET_LENGTH IS NULL AND c.DATA_TYPE "
        "NOT REGEXP 'int|decimal|float|double|date|time|year|bit|enum|set');"
    ):
        columns.setdefault(table, []).append(column)
    for table, named in columns.items():
        longer = " OR ".join(f"LENGTH({identifier(column)}) > @@max_allowed_packet" for column in named)
        if await client.ask(f"SELECT 1 FROM {identifier(table)} WHERE {longer} LIMIT 1;"):
            report.lack(
                "value_too_long",
                "Holds a value larger than the server's max_allowed_packet, which must be raised before this can be "
                "restored",
                table,
            )


async def _invalid_views(client: MysqlClient, views: Sequence[str], report: Report) -> list[str]:
    """Views whose tables are gone: the dump programs stop at one. Their definition goes into a warning."""
    asked = {f"SHOW FIELDS FROM {identifier(view)};": view for view in views}
    invalid = []
    for number, statement, message in await _errors(client, list(asked)):
        if number not in _INVALID:
            continue
        view = asked[statement]
        invalid.append(view)
        rows = await client.execute(f"SHOW CREATE VIEW {identifier(view)};")
        definition = rows.stdout.decode("utf-8", "replace").split("\t")
        kept = definition[1] if len(definition) > 1 else "its definition could not be read"
        report.warn("view_invalid", f"{message}; not dumped, its definition: {kept}", view)
    return invalid


async def _errors(client: MysqlClient, statements: Sequence[str]) -> list[tuple[str, str, str]]:
    """(number, statement, message) of each that fails, all in one session."""
    if not statements:
        return []
    result = await client.execute("\n".join(statements), force=True)
    lines = accumulate((statement.count("\n") + 1 for statement in statements), initial=1)  # a name may have some
    at = dict(zip(lines, statements, strict=False))
    found = _ERROR.findall(result.stderr)
    return [(number, at[int(line)], message) for number, line, message in found if int(line) in at]
