"""All that a MySQL or MariaDB database holds, as lines of text: definitions, the information schema and rows."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from demo.servers import MariadbServer
from tests.databases.comparison import Snapshot

#: Of every definition that names an account: what is created belongs to whoever creates it, on purpose.
_QUOTED = r"""(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|"(?:[^"]|"")*")"""
_DEFINER = re.compile(f"DEFINER={_QUOTED}@{_QUOTED}")
#: MySQL shows it where it was given, and a collation is of one character set.
_IMPLIED = re.compile(r"CHARACTER SET \w+ (?=COLLATE )")
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}

#: A table of the information schema → columns that say where, when or how much, and the column of the database.
_TABLES = {
    "TABLES": (
        "TABLE_SCHEMA",
        "TABLE_CATALOG CREATE_TIME UPDATE_TIME CHECK_TIME TABLE_ROWS AVG_ROW_LENGTH DATA_LENGTH INDEX_LENGTH "
        "MAX_DATA_LENGTH DATA_FREE CHECKSUM MAX_INDEX_LENGTH AUTO_INCREMENT VERSION",
    ),
    "COLUMNS": ("TABLE_SCHEMA", "TABLE_CATALOG PRIVILEGES"),
    "STATISTICS": ("TABLE_SCHEMA", "TABLE_CATALOG INDEX_SCHEMA CARDINALITY"),
    "CHECK_CONSTRAINTS": ("CONSTRAINT_SCHEMA", "CONSTRAINT_CATALOG"),
    "TABLE_CONSTRAINTS": ("TABLE_SCHEMA", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA"),
    "KEY_COLUMN_USAGE": ("TABLE_SCHEMA", "TABLE_CATALOG CONSTRAINT_CATALOG CONSTRAINT_SCHEMA"),
    "REFERENTIAL_CONSTRAINTS": ("CONSTRAINT_SCHEMA", "CONSTRAINT_CATALOG UNIQUE_CONSTRAINT_CATALOG"),
    "PARTITIONS": (
        "TABLE_SCHEMA",
        "TABLE_CATALOG TABLE_ROWS AVG_ROW_LENGTH DATA_LENGTH MAX_DATA_LENGTH INDEX_LENGTH DATA_FREE CREATE_TIME "
        "UPDATE_TIME CHECK_TIME CHECKSUM",
    ),
    "VIEWS": ("TABLE_SCHEMA", "TABLE_CATALOG DEFINER"),
    "TRIGGERS": ("TRIGGER_SCHEMA", "TRIGGER_CATALOG EVENT_OBJECT_CATALOG EVENT_OBJECT_SCHEMA CREATED DEFINER"),
    "ROUTINES": ("ROUTINE_SCHEMA", "ROUTINE_CATALOG CREATED LAST_ALTERED DEFINER"),
    "PARAMETERS": ("SPECIFIC_SCHEMA", "SPECIFIC_CATALOG"),
    "EVENTS": ("EVENT_SCHEMA", "EVENT_CATALOG CREATED LAST_ALTERED LAST_EXECUTED DEFINER ORIGINATOR"),
    "ST_GEOMETRY_COLUMNS": ("TABLE_SCHEMA", "TABLE_CATALOG"),
}
_GRANTS = {
    "TABLE_PRIVILEGES": "TABLE_NAME, PRIVILEGE_TYPE, IS_GRANTABLE",
    "COLUMN_PRIVILEGES": "TABLE_NAME, COLUMN_NAME, PRIVILEGE_TYPE, IS_GRANTABLE",
}


_INFORMATION_SCHEMA: dict[int, dict[str, list[str]]] = {}


def identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def literal(name: str) -> str:
    return f"CONVERT(0x{name.encode().hex()} USING utf8mb4)"


class Client:
    """An administrator's rows of one database, with every character of a value; errors come as lines."""

    def __init__(self, server: MariadbServer, database: str, program: str = "mariadb") -> None:
        self._server = server
        self._program = program
        self.database = database

    def ask(self, sql: str) -> list[list[str]]:
        """As rows; of several statements, one after the other. What a statement is refused with is a row as well."""
        output, errors = self.run(sql)
        rows = [[_plain(cell) for cell in line.split("\t")] for line in output.split("\n") if line]
        return rows + [
            ["error", re.sub(r" at line \d+", "", line)] for line in errors.splitlines() if "ERROR" in line
        ]

    def information_schema(self) -> dict[str, list[str]]:
        """Its tables and their columns; they differ by server and version. Asked once of each server."""
        known = _INFORMATION_SCHEMA.setdefault(self._server.port, {})
        if not known:
            for table, column in self.ask(
                "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS "
                "WHERE TABLE_SCHEMA = 'information_schema' ORDER BY TABLE_NAME, ORDINAL_POSITION;"
            ):
                known.setdefault(table.upper(), []).append(column)
        return known

    def run(self, sql: str, *options: str) -> tuple[str, str]:
        argv = ["--batch", "--skip-column-names", "--force", "--default-character-set=utf8mb4", *options]
        argv += ["--max-allowed-packet=1G", f"--database={self.database}"]
        return client(self._server, self._program, argv, sql)

    def dump(self, program: str, *options: str) -> tuple[str, str]:
        argv = ["--routines", "--triggers", "--events", "--hex-blob", "--skip-comments", "--skip-extended-insert"]
        argv += ["--order-by-primary", "--force", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"]
        argv += ["--no-tablespaces", "--no-data", "--skip-lock-tables", *options]
        return client(self._server, program, [*argv, "--", self.database], "")


def client(server: MariadbServer, program: str, argv: list[str], sql: str) -> tuple[str, str]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-zoo-client-"))
    options = folder / "client.cnf"
    options.touch(mode=0o600)
    options.write_text(
        f'[client]\nuser=admin\npassword="{server.admin_password}"\nhost=127.0.0.1\nport={server.port}\n'
    )
    try:
        result = subprocess.run(
            [program, f"--defaults-file={options}", *argv],
            input=sql.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
            timeout=120,
            env={"PATH": os.environ["PATH"]},
        )
    finally:
        shutil.rmtree(folder)
    return result.stdout.decode("utf-8", "surrogateescape"), result.stderr.decode("utf-8", "surrogateescape")


def _plain(cell: str) -> str:
    return _ESCAPED.sub(lambda found: _UNESCAPED.get(found[1], found[1]), cell)


@dataclass(slots=True)
class Contents:
    """What there is to ask about. `tables`: name → type and engine; `columns`: table → name and type of each."""

    tables: dict[str, tuple[str, str]] = field(default_factory=dict)
    columns: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    programs: list[tuple[str, str]] = field(default_factory=list)


def mysql_snapshot(reader: Client) -> Snapshot:
    """One question for what is there, one for all definitions and rows."""
    found: Snapshot = {"SHOW CREATE": [], "rows": []}
    contents = _information(reader, found)
    answers = reader.ask("\n".join([*_definitions(contents), "SELECT '#rows';", *_rows(contents)]))
    at = answers.index(["#rows"]) if ["#rows"] in answers else 0
    for row in answers[:at]:
        kept = [cell for cell in row if not re.fullmatch(r"\d{4}-\d\d-\d\d [\d:.]+", cell)]  # when it was made
        found["SHOW CREATE"].append(_here(reader, " | ".join(kept)))
    sums: dict[str, list[str]] = {name: [] for name, (kind, _) in contents.tables.items() if kind != "VIEW"}
    for row in answers[at + 1 :]:
        if row[0] == "error":
            found["rows"].append(_here(reader, " ".join(row)))
        else:
            sums[row[0][1:]].append(row[1])
    for name, all_of in sums.items():
        digest = hashlib.sha256("".join(sorted(all_of)).encode()).hexdigest()[:16]
        found["rows"].append(f"{name} | {len(all_of)} | {digest}")
    return found


def _information(reader: Client, found: Snapshot) -> Contents:
    """Every line of the information schema on the database."""
    of = reader.information_schema()
    here, script = literal(reader.database), ["SET SESSION group_concat_max_len = 1 << 24;"]
    script.append(
        "SELECT 'database', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA "
        f"WHERE SCHEMA_NAME = {here};"
    )
    for table, (schema, dropped) in _TABLES.items():
        kept = [name for name in of.get(table, []) if name not in {*dropped.split(), schema}]
        if not kept:
            continue
        named = sorted(kept, key=lambda name: not name.endswith("_NAME"))
        parts = ", ".join(f"'{name}=', IFNULL({identifier(name)}, 'NULL')" for name in named)
        where = f"{schema} = {here}"
        script.append(f"SELECT '{table}', CONCAT_WS(' ', {parts}) FROM information_schema.{table} WHERE {where};")
    for table, kept_columns in _GRANTS.items():
        script.append(
            f"SELECT 'grants', CONCAT_WS(' ', GRANTEE, {kept_columns}) FROM information_schema.{table} "
            f"WHERE TABLE_SCHEMA = {here};"
        )
    script.append(
        "SELECT 'grants', CONCAT_WS(' ', Routine_name, Routine_type, User, Host, Proc_priv) FROM mysql.procs_priv "
        f"WHERE Db = {here};"
    )
    script.append(
        "SELECT '#table', TABLE_NAME, TABLE_TYPE, IFNULL(ENGINE, '') FROM information_schema.TABLES "
        f"WHERE TABLE_SCHEMA = {here};"
    )
    script.append(
        "SELECT '#column', TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS "
        f"WHERE TABLE_SCHEMA = {here} ORDER BY TABLE_NAME, ORDINAL_POSITION;"
    )
    script += [
        "SELECT '#program', ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES "
        f"WHERE ROUTINE_SCHEMA = {here};",
        f"SELECT '#program', 'TRIGGER', TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {here};",
        f"SELECT '#program', 'EVENT', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {here};",
    ]
    contents = Contents()
    for row in reader.ask("\n".join(script)):
        assert row[0] != "error", row
        if row[0] == "#table":
            contents.tables[row[1]] = (row[2], row[3])
        elif row[0] == "#column":
            contents.columns.setdefault(row[1], []).append((row[2], row[3]))
        elif row[0] == "#program":
            contents.programs.append((row[1], row[2]))
        else:
            found.setdefault(row[0], []).append(_here(reader, " | ".join(row[1:])))
    return contents


def _definitions(contents: Contents) -> list[str]:
    script = []
    for name, (kind, _) in sorted(contents.tables.items()):
        script.append(f"SHOW CREATE {'VIEW' if kind == 'VIEW' else 'TABLE'} {identifier(name)};")
    return script + [f"SHOW CREATE {kind} {identifier(name)};" for kind, name in sorted(contents.programs)]


def _rows(contents: Contents) -> list[str]:
    """Of every table a sum of each row, of every sequence where it is."""
    lines = []
    for name, (kind, engine) in sorted(contents.tables.items()):
        if kind in {"VIEW", "SYSTEM VIEW"} or engine.upper() == "BLACKHOLE":
            continue
        if kind == "SEQUENCE":
            parts, history = "CONCAT_WS(' ', next_not_cached_value, cycle_count)", ""
        else:
            each = (f"IFNULL({_exact(column, of)}, 'NULL')" for column, of in contents.columns.get(name, []))
            parts = f"SHA2(CONCAT_WS('|', {', '.join(each)}), 256)"
            history = " FOR SYSTEM_TIME ALL" if kind == "SYSTEM VERSIONED" else ""
        lines.append(f"SELECT {literal('#' + name)}, {parts} FROM {identifier(name)}{history};")
    return lines


def _exact(column: str, of: str) -> str:
    """A column's value with every bit of it: a FLOAT is printed with six digits only."""
    name = identifier(column)
    if of.startswith("float"):
        return f"CAST({name} AS DOUBLE)"
    if re.match(r"(tiny|medium|long)?(blob|text)|(var)?(char|binary)|enum|set", of):
        return f"HEX({name})"
    if re.match(r"(multi)?(point|linestring|polygon)|geom|vector|bit", of):
        return f"HEX({name})"
    return f"HEX(CAST({name} AS CHAR))"


def _here(reader: Client, line: str) -> str:
    """Without the database's own name, and without who defined it."""
    line = _IMPLIED.sub("", _DEFINER.sub("DEFINER=somebody", line))
    return line.replace(f"{identifier(reader.database)}.", "").replace(reader.database, "HERE")


def mysql_native(reader: Client, program: str) -> list[str]:
    output, errors = reader.dump(program)
    lines = [_here(reader, line) for line in (output + errors).splitlines()]
    return [re.sub(r" STARTS '[^']*'", "", line) for line in lines if line.strip()]


def mysql_drop_rows(reader: Client) -> None:
    """Empty every table, whatever refers to it."""
    rows = reader.ask(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') "
        f"AND TABLE_SCHEMA = {literal(reader.database)};"
    )
    reader.run("SET FOREIGN_KEY_CHECKS = 0;\n" + "\n".join(f"DELETE FROM {identifier(row[0])};" for row in rows))
