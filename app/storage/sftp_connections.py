"""Connections to one SSH server: host keys pinned, made again after a break, errors in this service's terms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import asyncssh
from asyncssh import SFTPClient, SFTPError

from app.errors import (
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
                    async with asyncio.timeout(self.timeout if timed else None):
                        return await work(client)
            except DestinationUnreachable as error:
                self._drop(number, client)
                if self._round_trip is None:
                    raise
                await patience.again(error)

    async def _client(self, number: int) -> SFTPClient:
        async with self._locks.setdefault(number, asyncio.Lock()):
            if number not in self._open:
                self._open[number] = await self._connect()
            return self._open[number][1]

    async def _connect(self) -> tuple[SSHClientConnection, SFTPClient]:
        settings = self._configuration
        address = await self._options.guard.resolve(settings.host, settings.port)
        account = SshAccount(
            address, settings.port, settings.username, settings.password, settings.private_key, settings.passphrase,
            self._host_key,
        )  # fmt: skip
        async with asyncio.timeout(settings.timeout):
            connection, presented = await connect(account)
            try:
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

    def _drop(self, number: int, client: SFTPClient | None) -> None:
        """Forget a broken connection, unless another call has replaced it already."""
        if number in self._open and self._open[number][1] is client:
            self._open.pop(number)[0].abort()

    async def close(self) -> None:
        connections = [connection for connection, _ in self._open.values()]
        self._open.clear()
        for connection in connections:
            connection.close()
            with suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await connection.wait_closed()


async def _nothing(client: SFTPClient) -> None:
    return None
