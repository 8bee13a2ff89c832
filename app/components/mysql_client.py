"""Talking to a MySQL or MariaDB server through its own command-line clients, at the deployment.

The client has a language of its own beside SQL (`edit`, `source`, `connect`, `system` …). --binary-mode leaves of it
the charset command and DELIMITER, which change how a script is cut into statements and nothing else (find_command in
client/mysql.cc, MariaDB 10.0 and MySQL 5.6 and later; an older client refuses the option and nothing runs). And it is
confined: whatever it could be made to do, it has nothing to do it with.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from app.archives.streams import ByteStream
from app.components.socket_login import system_user
from app.deployments.base import CommandResult, Deployment, Outcome, User
from app.errors import (
    CommandFailed,
    ComponentError,
    DatabaseAccessDenied,
    DatabaseNotFound,
    DatabaseUnreachable,
    LoadFailed,
    ToolMissing,
)

_ERROR = re.compile(r"(?:error:|ERROR|Got error:) ?(\d{4})\b")
#: What the server says of a statement, or the client; before it, MariaDB's client shows the statement.
_COMPLAINT = re.compile(r"^(?:\S+: )?(ERROR.*|.*(?:error|Error): .*)", re.MULTILINE)
_SHOWN = re.compile(
    r"-{14}\n\W*(?:/\*M?!\d*\s*)?((?:CREATE|DROP|ALTER|INSERT|REPLACE|LOCK|UPDATE|DELETE|SET|CALL)\b"
    r"(?: (?:TABLES?|VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT|INTO|DATABASE|IF|NOT|EXISTS)\b)*)\s*(`[^`\n]{1,64}`)?",
    re.IGNORECASE,
)
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n", "t": "\t", "0": "\0"}
_DENIED = {"1044", "1045", "1142", "1227", "1370", "1698"}
_LOCK_SECONDS = 300
_ALONE_SECONDS = 480
_UNREACHABLE = {"2002", "2003", "2005", "2006", "2013", "2026"}
#: No commands of the client's own, no file of its machine for a server that asks for one, no other connection.
_TAME = ("--binary-mode", "--local-infile=0", "--skip-reconnect")


@dataclass(frozen=True, slots=True)
class Account:
    """Without a password, and over a socket, the server may know the account by the system user of the same name
    (unix_socket, auth_socket)."""

    username: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MysqlTarget:
    """A database, its owner, and an administrator where one is configured. `socket` wins over `host`."""

    name: str
    owner: Account
    admin: Account | None = None
    host: str | None = None
    port: int | None = None
    socket: str | None = None


def identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """As hexadecimal: no quoting rule, sql_mode or character set can change its meaning."""
    return f"CONVERT(0x{text.encode().hex()} USING utf8mb4)" if text else "''"


def _option(value: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(plain, escaped)
    return f'"{value}"'


class MysqlClient:
    """One account's way into one server. Every command reads our options file and no other.

    `mark`: a name that every session holds as a lock of the server while it lives. A client that is killed leaves its
    session behind, which goes on with the statement it is at, and a client whose parent was killed goes on with what
    is in its pipe; `alone` waits for them.
    """

    def __init__(self, deployment: Deployment, target: MysqlTarget, account: Account, mark: str = "") -> None:
        self.deployment = deployment
        self.target = target
        self.account = account
        self.mark = mark

    def as_account(self, account: Account) -> MysqlClient:
        return MysqlClient(self.deployment, self.target, account, self.mark)

    def on(self, database: str) -> MysqlClient:
        return MysqlClient(self.deployment, replace(self.target, name=database), self.account, self.mark)

    def marked(self, mark: str) -> MysqlClient:
        return MysqlClient(self.deployment, self.target, self.account, mark)

    @property
    def _beginning(self) -> bytes:
        """Of every session: on one line with what follows, whose line numbers stay. A table that a site keeps locked
        is not waited for without end."""
        if not self.mark:
            return b""
        return f"SET lock_wait_timeout = {_LOCK_SECONDS}; DO GET_LOCK({literal(self.mark)}, 60); ".encode()

    async def markable(self, mark: str) -> str:
        """`mark`, or none where the server has no such locks (some clusters refuse them)."""
        try:
            await self.marked("").ask(f"DO GET_LOCK({literal(mark)}, 0);", database=False)
        except (DatabaseUnreachable, DatabaseAccessDenied):
            raise
        except ComponentError:
            return ""
        return mark

    async def alone(self) -> None:
        """Wait until no session with our mark is left of those whose client is gone. Raises DatabaseUnreachable."""
        if not self.mark:
            return
        sql = f"SELECT GET_LOCK({literal(self.mark)}, {_ALONE_SECONDS});"
        if await self.marked("").ask(sql, database=False) != [["1"]]:
            raise DatabaseUnreachable(
                f"MySQL database {self.target.name}: a statement of an earlier attempt is still running in the server"
            )

    @asynccontextmanager
    async def options(self) -> AsyncGenerator[str, None]:
        """`--defaults-file=…`, to be a command's first argument: a tenant's ~/.my.cnf is not read."""
        target = self.target
        values = {"user": self.account.username, "password": self.account.password or ""}
        if target.socket:
            values["socket"] = target.socket
        elif target.host:
            values |= {"host": target.host, "protocol": "tcp"}
        if target.port and not target.socket:
            values["port"] = str(target.port)
        lines = [f"{key}={_option(value)}" for key, value in values.items()]
        content = "\n".join(["[client]", *lines, "[mysql]", "connect-timeout=15", ""])
        async with self.deployment.secret_file(content) as path:
            yield f"--defaults-file={path}"

    async def tool(self, *names: str) -> tuple[str, bool]:
        """The first of `names` that is there, and whether it is MariaDB's."""
        known = self.deployment.tools
        if names not in known:
            known[names] = await self._find(*names)
        found: tuple[str, bool] = known[names]
        return found

    async def _find(self, *names: str) -> tuple[str, bool]:
        for name in names:
            try:
                result = await self.deployment.run([name, "--version"], timeout=30, confined=True)
            except ToolMissing:
                continue
            return name, b"MariaDB" in result.stdout
        raise ToolMissing(f"Neither {' nor '.join(names)} is installed where the site runs")

    async def _user(self) -> User | None:
        """Whom the client programs run as; None: nobody in particular."""
        account = self.account
        return await system_user(
            self.deployment, account.username, password=bool(account.password), socket=not self.target.host
        )

    async def ask(self, sql: str, *, database: bool = True, force: bool = False) -> list[list[str]]:
        """Rows of our own SQL, never a tenant's. Raises the database's errors, typed."""
        result = await self.execute(sql, database=database, force=force)
        if result.status != 0:
            raise self.explained(result.stderr)
        rows = result.stdout.decode("utf-8", "replace").split("\n")[:-1]  # no other line break: names may hold them
        return [[_ESCAPED.sub(_unescape, cell) for cell in row.split("\t")] for row in rows]

    async def execute(self, sql: str, *, database: bool = True, force: bool = False) -> CommandResult:
        name, _ = await self.tool("mariadb", "mysql")
        user = await self._user()
        async with self.options() as options:
            argv = [name, options, *_TAME, "--batch", "--skip-column-names", "--default-character-set=utf8mb4"]
            argv += [f"--database={self.target.name}"] if database else []
            argv += ["--force"] if force else []
            return await self.deployment.run(
                argv,
                input=self._beginning + sql.encode(),
                user=user,
                check=False,
                timeout=600,
                confined=not _is_root(user),
            )

    async def load(self, source: ByteStream) -> None:
        """Run a script that is not ours. Raises LoadFailed, DatabaseAccessDenied."""
        async with aclosing(source):
            name, mariadb = await self.tool("mariadb", "mysql")
            user = await self._user()
            if _is_root(user):
                raise DatabaseAccessDenied(
                    f"{self.account.username} logs in as the system's root, and a tenant's SQL must not run as that; "
                    f"configure the account that owns {self.target.name}, with its password"
                )
            async with self.options() as options:
                argv = [name, options, *_TAME, *(["--loose-sandbox"] if mariadb else [])]
                argv += [
                    "--default-character-set=utf8mb4",
                    "--max-allowed-packet=1G",
                    f"--database={self.target.name}",
                ]
                try:
                    result = await self.deployment.run(
                        argv, input=self._begun(source), user=user, check=False, confined=True
                    )
                except CommandFailed as error:
                    raise LoadFailed(f"{self.target.name}: {error.message}") from error
        if result.status != 0:
            raise LoadFailed(f"{self.target.name}: {complaint(result.stderr)}")

    async def dumped(self, argv: Sequence[str], outcome: Outcome, see: Callable[[bytes], None]) -> ByteStream:
        """What a dump program writes, whatever its status. `see`: see Deployment.stream."""
        user = await self._user()
        async with self.options() as options:
            output = self.deployment.stream(
                [argv[0], options, *argv[1:]],
                user=user,
                accept=range(256),
                outcome=outcome,
                confined=not _is_root(user),
                see=see,
            )
            async with aclosing(output):
                async for chunk in output:
                    yield chunk

    async def _begun(self, source: ByteStream) -> ByteStream:
        async with aclosing(source):
            if self.mark:  # on a line of its own: DELIMITER begins one
                yield self._beginning + b"\n"
            async for chunk in source:
                yield chunk

    def explained(self, stderr: str) -> ComponentError:
        text = complaint(stderr)
        name = f"MySQL database {self.target.name}"
        found = _ERROR.search(text)
        number = found[1] if found else ""
        if number == "1049":
            return DatabaseNotFound(f"{name}: there is no such database")
        if number in _DENIED:
            return DatabaseAccessDenied(f"{name}: access denied to {self.account.username}: {text}")
        if number in _UNREACHABLE:
            return DatabaseUnreachable(f"{name}: the server does not answer: {text}")
        return ComponentError(f"{name}: {text}")


def complaint(stderr: str) -> str:
    """Code and message of the server, and what the statement was about: its text is data of somebody's."""
    found = _COMPLAINT.findall(stderr)
    text = (found[-1] if found else stderr.strip().rpartition("\n")[2])[:400]
    if shown := _SHOWN.search(stderr):
        text += f" ({' '.join(filter(None, shown.groups()))})"
    return text


def _is_root(user: User | None) -> bool:
    """An administrator that the server knows by root's socket: nobody else can log in as that one, and root cannot be
    confined. Only our own SQL, and the dump program, run so."""
    return user is not None and user.uid == 0


def _unescape(match: re.Match[str]) -> str:
    return _UNESCAPED.get(match[1], match[1])
