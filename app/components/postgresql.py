"""A PostgreSQL database: pg_dump's custom format, restored in one transaction of ours; its tar and plain ones too."""

from __future__ import annotations

import re
import secrets
from contextlib import aclosing
from dataclasses import dataclass

from app.archives.streams import ByteStream, Sink, SourceReader, transform
from app.archives.tar import BLOCK, is_header
from app.components.base import Component, Dump, Report, RestoreContext
from app.components.psql_script import ScriptFilter
from app.deployments.base import CommandResult, Deployment
from app.errors import (
    CommandFailed,
    ComponentError,
    DatabaseAccessDenied,
    DatabaseNotFound,
    DatabaseUnreachable,
    DeploymentError,
    DumpIncomplete,
    LoadFailed,
    ToolMissing,
)

_PSQL = ["psql", "-X", "-q", "-A", "-t", "--no-password", "-v", "ON_ERROR_STOP=1", "-f", "-"]
_END_OF_DATA = bytes(5)
_LOCK_SECONDS = 300
_LOCK = f"pg_catalog.pg_advisory_xact_lock({int.from_bytes(b'liberu')})"
#: A session whose client is gone may still be at its statement: the lock is held until its transaction is over.
#: What is printed first is the number by which the server knows later whether this one was committed.
_BEGIN = f"""BEGIN;
SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';
SELECT pg_catalog.txid_current() FROM {_LOCK};
CREATE TEMP TABLE liberu_guard (id int) ON COMMIT DROP;
"""
_HEAD = 16 << 20

#: Drops what the account owns, extensions and their members kept. Runs inside the restore's transaction.
_DROP_OWNED = """
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = '';
DO $liberu$
DECLARE item record; me oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user);
BEGIN
  FOR item IN
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
      CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
        WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relowner = me AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND n.nspname !~ '^pg_'
      AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  LOOP
    IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = item.oid) THEN
      EXECUTE format('DROP %s %s CASCADE', item.kind, item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT p.oid, p.oid::regprocedure::text AS name FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proowner = me AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
  LOOP
    IF EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid = item.oid) THEN
      EXECUTE format('DROP ROUTINE %s CASCADE', item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT t.oid, format('%I.%I', n.nspname, t.typname) AS name,
      CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS kind
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typowner = me AND t.typtype IN ('e', 'd', 'r') AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
  LOOP
    IF EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = item.oid) THEN
      EXECUTE format('DROP %s %s CASCADE', item.kind, item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT n.oid, quote_ident(n.nspname) AS name FROM pg_catalog.pg_namespace n
    WHERE n.nspowner = me AND n.nspname <> 'public' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)
  LOOP
    EXECUTE format('DROP SCHEMA %s CASCADE', item.name);
  END LOOP;
  PERFORM pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m WHERE m.lomowner = me;
END $liberu$;
"""

_FACTS = """
SELECT current_setting('server_version'), (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
  (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
       WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'));
"""


@dataclass(frozen=True, slots=True)
class PostgresqlTarget:
    """A database and the account that owns what is in it. `host`: a name, an address or a socket's folder."""

    name: str
    username: str
    password: str | None = None
    host: str | None = None
    port: int | None = None

    @property
    def env(self) -> dict[str, str]:
        """By environment: a name in argv could be an option or a connection string."""
        env = {
            "PGDATABASE": self.name,
            "PGUSER": self.username,
            "PGCONNECT_TIMEOUT": "15",
            "PGCLIENTENCODING": "UTF8",
            "PGAPPNAME": "liberu-backup",
        }
        optional = {"PGPASSWORD": self.password, "PGHOST": self.host, "PGPORT": self.port}
        return env | {key: str(value) for key, value in optional.items() if value is not None}


async def _again(first: bytes, rest: ByteStream) -> ByteStream:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


def _major(version: str) -> int:
    """Of `15.14 (Debian…)` or `pg_dump (PostgreSQL) 15.14`."""
    found = re.search(r"\d+", version)
    return int(found[0]) if found else 0


class _DumpWatch:
    """Looks at a custom-format archive as it passes: its magic, its data entries, its last data block's end."""

    def __init__(self, tables: int) -> None:
        self._tables = tables
        self._seen = 0
        self._start = b""
        self._tail = b""
        self._data = False

    async def watch(self, stream: ByteStream) -> ByteStream:
        async with aclosing(stream):
            async for chunk in stream:
                if not self._seen:
                    self._start = chunk[:5]
                if not self._data and self._seen < _HEAD:
                    self._data = b"TABLE DATA" in self._tail + chunk
                self._seen += len(chunk)
                self._tail = (self._tail + chunk)[-16:]
                yield chunk

    def verify(self) -> None:
        if self._start != b"PGDMP":
            raise DumpIncomplete("pg_dump wrote no archive")
        if self._tables and not (self._data and self._tail.endswith(_END_OF_DATA)):
            raise DumpIncomplete(f"The database has {self._tables} tables, the dump holds none or was cut")


_UNKNOWN = (
    "the connection was lost while it was committed: the live database is whole, and either the old or the restored "
    "one. There is no safety copy, and none is needed: look at it, or restore again"
)


@dataclass(slots=True)
class _Sent:
    """`commit`: from right before COMMIT is sent."""

    commit: bool = False


class PostgresqlComponent(Component):
    kind = "postgresql"

    def __init__(self, deployment: Deployment, target: PostgresqlTarget) -> None:
        self._deployment = deployment
        self._target = target

    async def _ask(self) -> tuple[str, bool, int]:
        """Version, whether the account is a superuser, number of tables. Raises the database's errors, typed."""
        result = await self._deployment.run(
            [*_PSQL, "-F", "\t"], input=_FACTS.encode(), env=self._target.env, check=False, timeout=60
        )
        if result.status != 0:
            raise self._explained(result)
        version, superuser, tables = result.stdout.decode().strip().split("\t")
        return version, superuser == "t", int(tables)

    async def _tool(self, name: str, server: str) -> str:
        """The program, at least as new as the server: an older pg_dump refuses, an older pg_restore cannot read what
        a newer one wrote. Debian keeps several side by side. Raises ToolMissing."""
        wanted = _major(server)
        known = self._deployment.tools
        if (name, wanted) not in known:
            known[name, wanted] = await self._find(name, wanted)
        found: str = known[name, wanted]
        return found

    async def _find(self, name: str, wanted: int) -> str:
        seen = "none"
        for candidate in (name, f"/usr/lib/postgresql/{wanted}/bin/{name}", f"/usr/pgsql-{wanted}/bin/{name}"):
            try:
                result = await self._deployment.run([candidate, "--version"], timeout=30)
            except ToolMissing:
                continue
            seen = result.stdout.decode("utf-8", "replace").strip()
            if _major(seen) >= wanted:
                return candidate
        raise ToolMissing(
            f"{name} there is too old for the PostgreSQL {wanted} of database {self._target.name} (found: {seen}); "
            f"install the client programs of version {wanted} where the site runs"
        )

    def _explained(self, result: CommandResult) -> ComponentError:
        text = result.stderr.strip()[-1000:]
        name = f"PostgreSQL database {self._target.name}"
        if "does not exist" in text and "database" in text:
            return DatabaseNotFound(f"{name}: there is no such database")
        if "authentication failed" in text or "permission denied" in text or "no pg_hba.conf entry" in text:
            return DatabaseAccessDenied(f"{name}: access denied to {self._target.username}; check its password")
        if "could not connect" in text or "connection to server" in text or "timeout" in text:
            return DatabaseUnreachable(f"{name}: the server does not answer: {text}")
        return ComponentError(f"{name}: {text}")

    async def dump(self) -> Dump:
        report = Report()
        version, _, tables = await self._ask()
        report.facts.update(server=version, tables=tables)
        watch = _DumpWatch(tables)
        argv = [
            await self._tool("pg_dump", version),
            "--format=custom",
            "--compress=0",
            "--no-password",
            "--lock-wait-timeout=120000",
        ]
        return Dump(watch.watch(self._deployment.stream(argv, env=self._target.env)), report, watch.verify)

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        _, superuser, _ = await self._ask()
        if superuser:
            raise DatabaseAccessDenied(
                f"{self._target.username} is a superuser, and a tenant's SQL must not run as one; "
                f"configure the account that owns {self._target.name}"
            )
        return "transaction"

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """All of it or nothing: COMMIT is sent only after the archive's last byte and hash are verified."""
        async with aclosing(source):
            await self.preflight(context, plain_size)
            version, _, _ = await self._ask()
            tool = await self._tool("pg_restore", version)
            sent = _Sent()
            try:
                result = await self._deployment.run(
                    _PSQL, input=self._script(tool, source, context, sent), env=self._target.env, check=False
                )
            except DeploymentError as error:
                if not sent.commit and not isinstance(error, CommandFailed):
                    raise
                told = _UNKNOWN if sent.commit else "nothing was changed"
                raise LoadFailed(f"{self._target.name}: {error.message}; {told}") from error
        if result.status != 0:
            await self._require_committed(result, sent)
        report = Report()
        version, _, tables = await self._ask()
        report.facts.update(server=version, tables=tables)
        return report

    async def _require_committed(self, result: CommandResult, sent: _Sent) -> None:
        """Of a psql that failed: when the connection was lost at COMMIT, only the server knows. Raises LoadFailed."""
        state = await self._state_of(result.stdout) if sent.commit else "aborted"
        if state == "committed":
            return
        told = "nothing was changed" if state == "aborted" else _UNKNOWN
        raise LoadFailed(f"{self._target.name}: {result.stderr.strip()[-1500:]}; {told}")

    async def _state_of(self, printed: bytes) -> str:
        """How the transaction ended whose number was printed first; waits until it has."""
        number = printed.split(b"\n", 1)[0].strip()
        if not number.isdigit():
            return "unknown"
        sql = f"SET lock_timeout = '60s'; SELECT pg_catalog.txid_status({int(number)}) FROM {_LOCK};"
        try:
            result = await self._deployment.run(
                _PSQL, input=sql.encode(), env=self._target.env, check=False, timeout=120
            )
        except (DeploymentError, TimeoutError):
            return "unknown"
        return result.stdout.decode("utf-8", "replace").strip() if result.status == 0 else "unknown"

    async def _script(self, tool: str, source: ByteStream, context: RestoreContext, sent: _Sent) -> ByteStream:
        first = await anext(source, b"")
        plain = not (first.startswith(b"PGDMP") or is_header(first[:BLOCK]))
        script = ScriptFilter(plain=plain)

        def filtered(reader: SourceReader, sink: Sink) -> None:
            for chunk in reader.chunks():
                for passed in script.feed(chunk):
                    sink.write(passed)
            if not (script.between_statements and script.whole):
                raise LoadFailed("The dump ends in the middle, or before its end marker")

        whole = _again(first, source)
        argv = [tool, "--no-owner", "--no-acl", "--file=-"]
        sql = transform(whole if plain else self._deployment.stream(argv, input=whole), filtered, "psql filter")
        async with aclosing(sql):
            yield _BEGIN.encode() + _DROP_OWNED.encode()
            beginning = True
            async for chunk in sql:
                if beginning and script.restricted:  # this psql knows restrict: it refuses commands as well
                    yield f"\\restrict {secrets.token_hex(16)}\n".encode()
                beginning = False
                yield chunk
        await context.confirm()
        sent.commit = True
        # Fails when the script has ended our transaction by itself.
        yield b"\nSELECT 1 FROM pg_temp.liberu_guard;\nCOMMIT;\n"
