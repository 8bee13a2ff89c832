"""A PostgreSQL database: pg_dump's custom format, restored in one transaction of ours; its tar and plain ones too."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from app.archives.streams import ByteStream, Sink, SourceReader, transform
from app.archives.tar import BLOCK, is_header
from app.components.base import COMMITTING, Component, Dump, Proof, Report, RestoreContext
from app.components.postgresql_archive import DumpWatch, bounded
from app.components.postgresql_dump import ListedDump
from app.components.postgresql_proof import KEY, PostgresqlProof, drop_scratch
from app.components.postgresql_report import gaps, report_of
from app.components.postgresql_sql import (
    BEGIN,
    COMMIT,
    DROP_OWNED,
    FACTS,
    OTHERS,
    UNREADABLE,
    state_of,
    unknown_settings,
)
from app.components.psql_entries import FIND_PATH, TELL_LEFT
from app.components.psql_failure import failure, statement_of
from app.components.psql_script import PsqlScript
from app.components.socket_login import system_user
from app.deployments.base import CommandResult, Deployment
from app.deployments.tree import User
from app.errors import (
    CommandFailed,
    ComponentError,
    DatabaseAccessDenied,
    DatabaseNotFound,
    DatabaseUnreachable,
    DeploymentError,
    LoadFailed,
    ToolMissing,
)

_PSQL = ["psql", "-X", "-q", "-A", "-t", "--no-password", "-v", "ON_ERROR_STOP=1", "-f", "-"]
#: Without autocommit: what comes after a transaction that a dump ended by itself is in none that anybody commits.
_LOAD = [*_PSQL[:-2], "-v", "AUTOCOMMIT=off", "-v", "VERBOSITY=verbose", "-v", "ECHO=errors", *_PSQL[-2:]]
#: psql's own status for a statement that failed, where it ends.
_SCRIPT_FAILED = 3


@dataclass(frozen=True, slots=True)
class PostgresqlTarget:
    """A database and the account that owns what is in it; an administrator, who may make databases, where one is
    configured. `host`: a name, an address or a socket's folder."""

    name: str
    username: str
    password: str | None = None
    host: str | None = None
    port: int | None = None
    admin_username: str | None = None
    admin_password: str | None = None

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


_UNKNOWN = (
    "the connection was lost while it was committed: the live database is whole, and either the old or the restored "
    "one. There is no safety copy, and none is needed: look at it, or restore again"
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the server says. `far`: what the account may do outside of the database; `unknown`: settings that newer
    servers have."""

    version: str
    far: str
    tables: int
    unknown: frozenset[str]

    @property
    def reported(self) -> dict[str, str | int]:
        return {"server": self.version, "tables": self.tables}


@dataclass(slots=True)
class _Sent:
    """`commit`: from right before COMMIT is sent. `script`: what became of the dump."""

    commit: bool = False
    script: PsqlScript | None = None


class PostgresqlComponent(Component):
    kind = "postgresql"

    def __init__(self, deployment: Deployment, target: PostgresqlTarget) -> None:
        self._deployment = deployment
        self._target = target

    async def _user(self) -> User | None:
        """Whom the client programs run as; None: nobody in particular. Root has no account of its own here."""
        target = self._target
        socket = target.host is None or target.host.startswith("/")
        user = await system_user(
            self._deployment, target.username, password=target.password is not None, socket=socket
        )
        return None if user is not None and user.uid == 0 else user

    async def _run(
        self, argv: Sequence[str], script: ByteStream | bytes, timeout: float | None = None
    ) -> CommandResult:
        return await self._deployment.run(
            argv,
            input=script,
            env=self._target.env,
            user=await self._user(),
            check=False,
            timeout=timeout,
            confined=True,
        )

    def on(self, database: str) -> PostgresqlComponent:
        return PostgresqlComponent(self._deployment, replace(self._target, name=database))

    @property
    def _admin(self) -> PostgresqlComponent | None:
        target = self._target
        if target.admin_username is None:
            return None
        account = replace(target, username=target.admin_username, password=target.admin_password)
        return PostgresqlComponent(self._deployment, account)

    async def answer(self, sql: str, seconds: float = 60) -> bytes:
        """Of SQL of ours. Raises the database's errors, typed."""
        result = await self._run([*_PSQL, "-F", "\t"], sql.encode(), timeout=seconds)
        if result.status != 0:
            raise self._explained(result)
        return result.stdout

    async def _ask(self) -> _Facts:
        """Raises the database's errors, typed."""
        answer = await self.answer(FACTS)
        version, far, tables, known = answer.decode().rstrip("\n").split("\t")
        return _Facts(version, far, int(tables), unknown_settings(known))

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
                result = await self._deployment.run([candidate, "--version"], timeout=30, confined=True)
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
        return await self._dumped(counting=False)

    async def dump_to_prove(self) -> Dump:
        return await self._dumped(counting=self._admin is not None)

    async def _dumped(self, *, counting: bool) -> Dump:
        report = Report()
        facts = await self._ask()
        report.facts.update(facts.reported)
        options, excluded = await self._around(report)
        watch = DumpWatch(max(facts.tables - len(excluded), 0))
        tool, user = await self._tool("pg_dump", facts.version), await self._user()
        argv = [
            tool,
            "--format=custom",
            "--compress=0",
            "--no-password",
            "--lock-wait-timeout=120000",
            *options,
        ]

        def dumped(more: Sequence[str]) -> ByteStream:
            return self._deployment.stream([*argv, *more], env=self._target.env, user=user, confined=True)

        async def listed(archive: ByteStream) -> ByteStream:
            argv = [await self._tool("pg_restore", facts.version), "--list"]
            async with aclosing(self._deployment.stream(argv, input=archive, confined=True)) as output:
                async for chunk in output:
                    yield chunk

        dump = ListedDump(dumped, self.printed_of, listed, watch, report, excluded, counting=counting)
        return Dump(dump.stream(), report, watch.verify, self._proof(dump) if counting else None)

    def _proof(self, dump: ListedDump) -> Proof | None:
        target, admin = self._target, self._admin
        if admin is None:
            return None
        return PostgresqlProof(self._deployment, target.host, target.name, target.username, self, admin, dump)

    async def printed_of(self, script: ByteStream) -> ByteStream:
        """What psql prints of SQL of ours."""
        argv, user = [*_PSQL, "-F", "\t"], await self._user()
        output = self._deployment.stream(argv, input=script, env=self._target.env, user=user, confined=True)
        async with aclosing(output):
            async for chunk in output:
                yield chunk

    async def _around(self, report: Report) -> tuple[list[str], set[tuple[str, str]]]:
        """pg_dump's options for what it would fail at as a whole, named in the report; the relations that are left
        out. Raises DatabaseAccessDenied for too many."""
        answer = await self.answer(UNREADABLE)
        return gaps(json.loads(answer.decode("utf-8", "surrogateescape")), report, self._target.username)

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        await self._tenant()
        return "transaction"

    async def _tenant(self) -> _Facts:
        """Raises DatabaseAccessDenied unless the account reaches no further than its database."""
        facts = await self._ask()
        if facts.far:
            raise DatabaseAccessDenied(
                f"{self._target.username} is, or can become, more than a tenant ({facts.far}), and what a dump holds "
                f"must not run as such; configure the account that owns {self._target.name}"
            )
        return facts

    async def _others(self) -> frozenset[tuple[str, str]]:
        answer = await self.answer(OTHERS)
        return frozenset((schema, name) for schema, name in json.loads(answer.decode("utf-8", "replace")))

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """All of it or nothing: COMMIT is sent only after the archive's last byte and hash are verified."""
        async with aclosing(source):
            facts = await self._tenant()
            tool = await self._tool("pg_restore", facts.version)
            sent = _Sent()
            kept = await self._others()
            script = self._script(tool, facts, kept, source, context, sent, plain_size)
            try:
                result = await self._run(_LOAD, script)
            except DeploymentError as error:
                if not sent.commit and not isinstance(error, CommandFailed):
                    raise
                told = _UNKNOWN if sent.commit else "nothing was changed"
                reason = _last_line(error.stderr) if isinstance(error, CommandFailed) else error.message
                raise LoadFailed(f"{self._target.name}: {reason}; {told}") from error
            except LoadFailed as error:
                raise LoadFailed(f"{self._target.name}: {error.message}; nothing was changed") from error
        await self._require_committed(result, sent)
        report = report_of(sent.script, result.stdout, self._target.username)
        report.facts.update((await self._ask()).reported)
        return report

    async def tidy(self, journal: dict[str, Any]) -> None:
        """Remove the scratch database of a proof."""
        noted = journal.get(KEY)
        if noted is None:
            return
        if (admin := self._admin) is None:
            raise ComponentError(
                f"{self._target.name}: the database {noted['scratch']} is left of a proof; removing it needs the "
                "admin account, which is not configured any more"
            )
        try:
            await drop_scratch(admin, noted["scratch"])
        except DatabaseNotFound:  # the live one is gone
            await drop_scratch(admin.on("postgres"), noted["scratch"])

    async def _require_committed(self, result: CommandResult, sent: _Sent) -> None:
        """What psql says is not enough: a script can take our COMMIT for a row, and a connection can be lost at it.
        Raises LoadFailed."""
        state = await self._state_of(result.stdout)
        if state == "unknown" and not sent.commit:
            state = "aborted"
        if state == "committed" and sent.commit and result.status != _SCRIPT_FAILED:
            return
        told = {
            "committed": "what came before is in the live database",
            "aborted": "nothing was changed",
        }.get(state, _UNKNOWN)
        if result.status == 0:
            reason = "the dump keeps its restore from being committed"
        elif state == "committed" or COMMIT.startswith(statement_of(result.stderr) or "-"):
            reason = "the dump ended the restore's transaction by itself"
        else:
            reason = failure(result.stderr)
        raise LoadFailed(f"{self._target.name}: {reason}; {told}")

    async def _state_of(self, printed: bytes) -> str:
        """How the transaction ended whose number was printed first; waits until it has."""
        number = printed.split(b"\n", 1)[0].strip()
        if not number.isdigit():
            return "unknown"
        state = await self._printed(state_of(int(number), waiting=False))
        if state == "in progress":
            state = await self._printed(state_of(int(number), waiting=True))
        return state

    async def _printed(self, sql: str) -> str:
        try:
            result = await self._run(_PSQL, sql.encode(), timeout=120)
        except (DeploymentError, TimeoutError):
            return "unknown"
        return result.stdout.decode("utf-8", "replace").strip() if result.status == 0 else "unknown"

    async def _script(
        self,
        tool: str,
        facts: _Facts,
        kept: frozenset[tuple[str, str]],
        source: ByteStream,
        context: RestoreContext,
        sent: _Sent,
        plain_size: int,
    ) -> ByteStream:
        first = await anext(source, b"")
        plain = not (first.startswith(b"PGDMP") or is_header(first[:BLOCK]))
        sent.script = script = PsqlScript(plain=plain, foreign=context.foreign, unknown=facts.unknown, kept=kept)

        def written(reader: SourceReader, sink: Sink) -> None:
            for chunk in reader.chunks():
                for piece in script.feed(chunk):
                    sink.write(piece)
            for piece in script.end():
                sink.write(piece)

        sql = _again(first, source)
        if not plain:
            argv = [tool, "--file=-"]
            sql = bounded(self._deployment.stream(argv, input=sql, confined=True), plain_size)
        async with aclosing(transform(sql, written, "psql script")) as passed:
            yield (BEGIN + FIND_PATH + DROP_OWNED).encode()
            async for chunk in passed:
                yield chunk
        await context.confirm()
        sent.commit = context.journal[COMMITTING] = True
        yield (TELL_LEFT + COMMIT).encode()


def _last_line(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return lines[-1][:300] if lines else "pg_restore failed and gave no reason"
