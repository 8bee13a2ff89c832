"""Connections to one SSH server: host keys pinned, made again after a break, errors in this service's terms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import asyncssh
from asyncssh import SFTPClient, SFTPError

from app.errors import (
    DestinationBusy,
    DestinationRefused,
    DestinationUnreachable,
    HostKeyMismatch,
    NoSpace,
    ObjectNotFound,
    StorageError,
    StoragePermissionDenied,
)
from app.ssh import SshAccount, connect
from app.storage.base import Options
from app.storage.config import SftpConfiguration
from app.storage.patience import Patience

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

T = TypeVar("T")
#: How long a server is asked again that hangs up on our first connection.
_CROWDED_SECONDS = 30
#: A line this long (seconds for a round trip) is filled by several connections: OpenSSH's window is 2 MiB each.
_LONG_LINE = 0.02
_WIDTH_OF_LONG_LINE = 6
_DENIED = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect)
_MISSING = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_BROKEN = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPBadMessage)


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn asyncssh's errors into ours. DestinationUnreachable: a broken line, on which another try may help."""
    try:
        yield
    except _MISSING as error:
        raise ObjectNotFound(f"{what}: there is no such object") from error
    except _DENIED as error:
        raise StoragePermissionDenied(
            f"{what}: permission denied; give the user write access to the folder"
        ) from error
    except _FULL as error:
        raise NoSpace(f"{what}: no space left at the destination; free some or choose another one") from error
    except _BROKEN as error:
        raise DestinationUnreachable(f"{what}: the connection was lost ({error.reason})") from error
    except SFTPError as error:
        raise StorageError(f"{what}: the server refused ({error.reason or error.code})") from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyMismatch(
            f"{what}: the server's host key is not the pinned one: another server answers, or it was set up anew. "
            "Ask its operator; if it is right, set host_key to the new key"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise DestinationRefused(f"{what}: authentication failed; check username, password and key") from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise DestinationUnreachable(f"{what}: the server cannot be reached ({reason})") from error


@contextmanager
def crowded(host: str) -> Iterator[None]:
    """A server that has too many connections or sessions hangs up, before its banner (sshd's MaxStartups) or after
    the login, or opens no channel (MaxSessions). Raises DestinationBusy."""
    try:
        yield
    except (asyncssh.ConnectionLost, asyncssh.ChannelOpenError, ConnectionResetError, BrokenPipeError) as error:
        raise DestinationBusy(
            f"{host} hung up on a new connection: it may allow no more of this user or address ({error}); end other "
            "programs that use it, or have the limit raised"
        ) from error
    except asyncssh.DisconnectError as error:
        if error.code != asyncssh.DISC_TOO_MANY_CONNECTIONS:
            raise
        raise DestinationBusy(f"{host} allows no more connections now ({error.reason}); try later") from error


class SftpConnections:
    """Numbered connections; each is made when it is first used."""

    def __init__(self, configuration: SftpConfiguration, options: Options) -> None:
        self._configuration = configuration
        self._options = options
        self.budget = options.budget
        self.timeout = configuration.timeout
        self._host_key = configuration.host_key
        self._open: dict[int, tuple[SSHClientConnection, SFTPClient]] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._round_trip: float | None = None
        self._connections = options.connections
        self._in_use: dict[SFTPClient, int] = {}

    async def width(self) -> int:
        """How many connections fill the line."""
        await self.call("Connecting", _nothing)
        return _WIDTH_OF_LONG_LINE if (self._round_trip or 0) > _LONG_LINE else 1

    async def call(
        self, what: str, work: Callable[[SFTPClient], Awaitable[T]], number: int = 0, *, timed: bool = True
    ) -> T:
        """Run `work`, which can be repeated: on a broken line again and again for `resume_seconds`.

        A server that was never reached is not tried again. `timed`: False for work whose every wait has a timeout of
        its own. Raises StorageError.
        """
        patience = Patience(self._options.resume_seconds)
        while True:
            client: SFTPClient | None = None
            try:
                with mapped(what):
                    client = await self._client(number)
                    try:
                        async with asyncio.timeout(self.timeout if timed else None):
                            return await work(client)
                    finally:
                        self._used(client)
            except DestinationUnreachable as error:
                self._drop(client)
                if self._round_trip is None:
                    raise
                await patience.again(error)

    async def _client(self, number: int) -> SFTPClient:
        """A connection that nobody can have closed before it is `_used`; number 0 where the server allows no more."""
        async with self._locks.setdefault(number, asyncio.Lock()):
            if number not in self._open:
                wait = min(self._options.resume_seconds, _CROWDED_SECONDS)
                try:
                    allowed = number == 0 or number < (self._connections.limit or number + 1)
                    if number == 0:
                        self._open[0] = await self._connections.open(self._connect, wait)
                    elif allowed:
                        self._open[number] = await self._connections.try_to_open(self._connect_again)
                except DestinationBusy:
                    if number == 0:
                        raise
            if number in self._open:
                made = self._open[number]
                self._connections.idle.pop(made, None)
                self._in_use[made[1]] = self._in_use.get(made[1], 0) + 1
                return made[1]
        return await self._client(0)

    def _used(self, client: SFTPClient) -> None:
        self._in_use[client] -= 1
        if self._in_use[client]:
            return
        del self._in_use[client]
        for made in self._open.values():
            if made[1] is client:
                self._connections.set_aside(made, partial(self._drop, client))

    async def _connect(self) -> tuple[SSHClientConnection, SFTPClient]:
        settings = self._configuration
        account = SshAccount(
            settings.host, settings.port, settings.username, settings.password, settings.private_key,
            settings.passphrase, self._host_key,
        )  # fmt: skip
        async with asyncio.timeout(settings.timeout):
            with crowded(settings.host):
                connection, presented = await connect(account, self._options.guard)
            try:
                with crowded(settings.host):
                    client = await connection.start_sftp_client(path_errors="strict")
                started = time.monotonic()
                await client.stat(".")
                self._round_trip = time.monotonic() - started
            except BaseException:
                connection.abort()
                raise
        if self._host_key is None:
            self._host_key = presented
            await self._options.pin({"host_key": presented})
        return connection, client

    async def _connect_again(self) -> tuple[SSHClientConnection, SFTPClient]:
        """As before: an account that is refused now has as many connections as it may (PAM's maxlogins)."""
        try:
            return await self._connect()
        except asyncssh.PermissionDenied as error:
            raise DestinationBusy(f"{self._configuration.host} refuses another login of the same user") from error

    def _drop(self, client: SFTPClient | None) -> None:
        """Forget a broken connection, unless another call has replaced it already."""
        for number, made in list(self._open.items()):
            if made[1] is client:
                del self._open[number]
                made[0].abort()
                self._connections.closed(made)

    async def possible(self) -> tuple[int, int]:
        """How many connections the server allows, and how many are ever used."""
        await self.call("Connecting", _nothing)
        further: list[tuple[SSHClientConnection, SFTPClient]] = []
        try:
            with suppress(DestinationBusy), mapped("Connecting once more"):
                while len(self._open) + len(further) < _WIDTH_OF_LONG_LINE:
                    further.append(await self._connections.try_to_open(self._connect_again))
            return len(self._open) + len(further), _WIDTH_OF_LONG_LINE
        finally:
            await self._end(further)

    async def close(self) -> None:
        made = list(self._open.values())
        self._open.clear()
        await self._end(made)

    async def _end(self, those: Sequence[tuple[SSHClientConnection, SFTPClient]]) -> None:
        for made in those:
            made[0].close()
            with suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await made[0].wait_closed()
            self._connections.closed(made)


async def _nothing(client: SFTPClient) -> None:
    return None
