"""Sites of a server that is reached over SSH; nothing is installed there.

Sources: RFC 4254 (sessions, exit status), OpenSSH's sshd_config(5).
"""

from __future__ import annotations

import asyncio
import random
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import asyncssh
from pydantic import SecretStr

from app.addresses import AddressGuard
from app.archives.streams import CHUNK
from app.deployments.base import User
from app.deployments.remote import SILENCE, Channel, RemoteDeployment
from app.deployments.site import Pin
from app.errors import (
    DeploymentKeyMismatch,
    DeploymentRefused,
    DeploymentUnreachable,
    DestinationUnreachable,
    InvalidRequest,
    StreamCut,
)
from app.ssh import SshAccount, connect

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

#: Of one connection; sshd's MaxSessions is 10, and a kill needs one.
_SESSIONS = 8
#: Seconds between attempts while the server has no room.
_PAUSES = (0.2, 0.4, 0.8, 1.6)
#: Who sets where a site runs may have it in a private network.
_OPERATORS = AddressGuard()
_SUDO = ("sudo", "-n", "--")
_WINDOW = 4 << 20
_PACKET = 1 << 17


@contextmanager
def mapped(what: str) -> Iterator[None]:
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise DeploymentKeyMismatch(
            f"{what}: the server's host key is not the pinned one: another server answers, or it was set up anew. "
            "Ask its operator; if it is right, set host_key to the new key"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise DeploymentRefused(f"{what}: authentication failed; check username, password and key") from error
    except DestinationUnreachable as error:
        raise DeploymentUnreachable(f"{what}: {error.message}") from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise DeploymentUnreachable(f"{what}: the server cannot be reached ({reason})") from error


@dataclass(frozen=True, slots=True)
class SshServer:
    """`sudo`: run everything as root, which `sudo -n` must allow without a password. `silence`: see
    RemoteDeployment."""

    account: SshAccount
    sudo: bool = False
    timeout: float = 30
    silence: float = SILENCE

    @property
    def name(self) -> str:
        return f"{self.account.username}@{self.account.address}"


class SshDeployment(RemoteDeployment):
    """Connections are opened as they are needed; `pin` keeps the host key that the first one saw."""

    kind = "ssh"

    def __init__(self, server: SshServer, pin: Pin) -> None:
        super().__init__(server.silence)
        self._server = server
        self._pin = pin
        self._lock = asyncio.Lock()
        self._connections: list[tuple[SSHClientConnection, int]] = []
        self._sessions = _SESSIONS
        self.prefix = _SUDO if server.sudo else ()

    async def prepare(self) -> None:
        await super().prepare()
        if self._server.sudo and not self.privileged:
            raise DeploymentRefused(f"{self._server.name}: sudo -n does not make this user root")

    async def open(self, argv: Sequence[str], cwd: str | None = None, user: User | None = None) -> Channel:
        what = f"Running {argv[0]} on {self._server.name}"
        with mapped(what):
            async with asyncio.timeout(self._server.timeout):
                connection, process = await self._started(" ".join(shlex.quote(part) for part in argv))
        return _SshChannel(process, connection, what, lambda: self._released(connection))

    async def _started(self, command: str) -> tuple[SSHClientConnection, Any]:
        """On a connection that has room for it: a server that opens no further channel allows fewer sessions."""
        pauses = [*_PAUSES]
        while True:
            connection = await self._free_connection()
            try:
                process = await connection.create_process(command, encoding=None, window=_WINDOW, max_pktsize=_PACKET)
            except asyncssh.ChannelOpenError:
                self._released(connection)
                others = next((used for c, used in self._connections if c is connection), 0)
                if others:
                    self._sessions = min(self._sessions, others)
                elif pauses:  # it may not have noticed yet that the last one has ended
                    await asyncio.sleep(pauses.pop(0))
                else:
                    raise
            except BaseException:
                self._released(connection)
                raise
            else:
                return connection, process

    async def _free_connection(self) -> SSHClientConnection:
        async with self._lock:
            self._connections = [(c, used) for c, used in self._connections if not c.is_closed()]
            for number, (connection, used) in enumerate(self._connections):
                if used < self._sessions:
                    self._connections[number] = (connection, used + 1)
                    return connection
            connection, presented = await self._connected()
            self._connections.append((connection, 1))
            if self._server.account.host_key is None:
                self._server = replace(self._server, account=replace(self._server.account, host_key=presented))
                await self._pin({"host_key": presented})
            return connection

    async def _connected(self) -> tuple[SSHClientConnection, str]:
        """A server that hangs up on a new connection is asked again: sshd may while too many log in (MaxStartups)."""
        for pause in _PAUSES:
            try:
                return await connect(self._server.account, _OPERATORS)
            except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError):
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  jitter
        try:
            return await connect(self._server.account, _OPERATORS)
        except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError) as error:
            raise DeploymentUnreachable(
                f"{self._server.name}: the server hangs up on new connections ({error}): it may allow no more of "
                "them (MaxStartups, or a limit of the user's logins)"
            ) from error

    def _released(self, connection: SSHClientConnection) -> None:
        self._connections = [(c, used - (c is connection)) for c, used in self._connections]

    async def close(self) -> None:
        for connection, _ in self._connections:
            connection.close()
            with suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.wait_closed()
        self._connections = []


class _SshChannel(Channel):
    def __init__(
        self, process: Any, connection: SSHClientConnection, what: str, released: Callable[[], None]
    ) -> None:
        super().__init__()
        self._process = process
        self._connection = connection
        self._what = what
        self._released: Callable[[], None] | None = released
        self._first_line = asyncio.Event()
        self._complaints = asyncio.create_task(self._gather())

    async def _gather(self) -> None:
        try:
            while data := await self._process.stderr.read(1 << 16):
                self.complain(data)
                if self.answered:
                    self._first_line.set()
        finally:
            self._first_line.set()

    @property
    def lost(self) -> bool:
        return self._connection.is_closed()

    async def answer(self) -> None:
        await self._first_line.wait()

    async def send(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (asyncssh.Error, OSError) as error:
            raise BrokenPipeError(str(error)) from error

    async def send_end(self) -> None:
        with suppress(asyncssh.Error, OSError):
            self._process.stdin.write_eof()

    async def receive(self) -> bytes:
        try:
            chunk: bytes = await self._process.stdout.read(CHUNK)
            if not chunk:
                await self._complaints
        except (asyncssh.Error, OSError) as error:
            raise StreamCut(f"{self._what}: the connection was lost ({error})") from error
        return chunk

    async def close(self) -> None:
        released, self._released = self._released, None
        if released is None:
            return
        self._complaints.cancel()
        await asyncio.wait({self._complaints})
        if not self._complaints.cancelled():
            self._complaints.exception()
        self._process.close()
        with suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await self._process.wait_closed()
        released()


def server_of(configuration: dict[str, Any], silence: float = SILENCE) -> SshServer:
    """From a domain's deployment setting, with its secrets. Raises InvalidRequest."""
    if not configuration.get("password") and not configuration.get("private_key"):
        raise InvalidRequest("A password or a private key is needed to log in", field="deployment")
    account = SshAccount(
        address=configuration["host"],
        port=configuration.get("port", 22),
        username=configuration["username"],
        password=_secret(configuration, "password"),
        private_key=_secret(configuration, "private_key"),
        passphrase=_secret(configuration, "passphrase"),
        host_key=configuration.get("host_key"),
    )
    return SshServer(account, configuration.get("sudo", False), silence=silence)


def _secret(configuration: dict[str, Any], name: str) -> SecretStr | None:
    value = configuration.get(name)
    return SecretStr(value) if value else None
