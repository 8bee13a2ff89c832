"""Sites in containers of a Docker engine.

Source: the Docker Engine API 1.41 (exec create, start; "Stream format" of attach: frames of 8 bytes of header and
their payload over a hijacked connection).
"""

from __future__ import annotations

import asyncio
import errno
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiodocker
import aiohttp

from app.archives.streams import CHUNK
from app.deployments import remote_scripts as scripts
from app.deployments.base import FolderArchive, User
from app.deployments.remote import SILENCE, Channel, RemoteDeployment
from app.errors import (
    DeploymentError,
    DeploymentRefused,
    DeploymentUnreachable,
    StreamCut,
    TargetGone,
    TargetMissing,
)

_STDOUT, _STDERR = 1, 2
_HEADER = struct.Struct(">BxxxL")
_TIMEOUT = 30
_NO_CONNECTION = 900  # aiodocker's own


@contextmanager
def mapped(what: str) -> Iterator[None]:
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == _NO_CONNECTION:
            raise _unreachable(what, error) from error
        if error.status == 404:
            raise TargetMissing(f"{what}: {error.message}") from error
        if error.status == 409 or "is not running" in error.message:  # or "is paused", "is restarting"
            raise TargetMissing(f"{what}: {error.message}; start it, or wait until it runs") from error
        raise DeploymentError(f"{what}: the engine refused ({error.status}): {error.message}") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _unreachable(what, error) from error


@contextmanager
def gone() -> Iterator[None]:
    """A container that ran when it was chosen, and does not any more."""
    try:
        yield
    except TargetMissing as error:
        raise TargetGone(error.message) from error


def _unreachable(what: str, error: BaseException) -> DeploymentError:
    inner: BaseException | None = error
    while inner is not None and getattr(inner, "errno", None) != errno.EACCES:
        inner = inner.__cause__ or inner.__context__
    if inner is not None:
        return DeploymentRefused(
            f"{what}: the engine's socket cannot be opened; add the service's user to the group docker"
        )
    return DeploymentUnreachable(
        f"{what}: the engine does not answer ({error or type(error).__name__}); does dockerd run?"
    )


class Engine:
    """A Docker engine at `url`: unix:///path or tcp://host:port. `silence`: see RemoteDeployment."""

    def __init__(self, url: str, silence: float = SILENCE) -> None:
        self.silence = silence
        self._url = url
        self._client: aiodocker.Docker | None = None

    @property
    def client(self) -> aiodocker.Docker:
        if self._client is None:
            self._client = aiodocker.Docker(url=self._url, timeout=aiohttp.ClientTimeout(sock_connect=5))
        return self._client

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One of our own: aiodocker's cannot close stdin alone."""
        parts = urlsplit(self._url)
        if parts.scheme == "unix":
            return await asyncio.open_unix_connection(parts.path, limit=CHUNK)
        return await asyncio.open_connection(parts.hostname, parts.port or 2375, limit=CHUNK)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


class DockerDeployment(RemoteDeployment):
    """Commands in one running container, as its root."""

    kind = "docker"
    native_users = True

    def __init__(self, engine: Engine, container: str, name: str, archive: FolderArchive | None = None) -> None:
        super().__init__(engine.silence)
        self.archive = archive
        self._engine = engine
        self._container = container
        self._name = name

    @property
    def privileged(self) -> bool:
        return True

    async def prepare(self) -> None:
        """See that there is a shell; `open` asks for root. Raises ToolMissing."""
        await self.run(["sh", "-c", scripts.ARRIVE], timeout=_TIMEOUT)

    async def open(self, argv: Sequence[str], cwd: str | None = None, user: User | None = None) -> Channel:
        what = f"Running {argv[0]} in container {self._name}"
        with gone(), mapped(what):
            async with asyncio.timeout(_TIMEOUT):
                execution = await self._engine.client.containers.container(self._container).exec(
                    list(argv),
                    stdin=True,
                    stdout=True,
                    stderr=True,
                    workdir=cwd or "/",
                    user="0:0" if user is None else f"{user.uid}:{user.gid}",
                )
                reader, writer = await self._engine.connection()
                try:
                    await _start(reader, writer, execution.id)
                except BaseException:
                    writer.close()
                    raise
        return _ExecChannel(reader, writer, what)


async def _start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, execution: str) -> None:
    """Start an exec and take its connection over."""
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    writer.write(
        f"POST /v1.41/exec/{execution}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise DeploymentUnreachable("The engine closed the connection before it answered") from error
    status = int(head.split(" ", 2)[1])
    if status not in (101, 200):
        said = await reader.read(2000)
        message = said.decode("utf-8", "replace")
        with suppress(ValueError, KeyError, TypeError):
            message = json.loads(said)["message"]
        raise aiodocker.DockerError(status, message)


class _ExecChannel(Channel):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer
        self._what = what
        self._rest = self._ahead = b""
        writer.transport.set_write_buffer_limits(CHUNK)

    async def send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise BrokenPipeError(str(error)) from error

    async def send_end(self) -> None:
        with suppress(OSError):
            self._writer.write_eof()

    async def answer(self) -> None:
        while not self.answered and not self._ahead and (data := await self._read()):
            self._ahead = self._frames(self._rest + data)

    async def receive(self) -> bytes:
        stdout, self._ahead = self._ahead, b""
        while not stdout and (data := await self._read()):
            stdout = self._frames(self._rest + data if self._rest else data)
        return stdout

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except OSError as error:
            raise StreamCut(f"{self._what}: the connection to the engine was lost ({error})") from error

    def _frames(self, data: bytes) -> bytes:
        """What of `data` is stdout; a frame that is not complete stays for the next time."""
        found: list[memoryview] = []
        view, at = memoryview(data), 0
        while at + _HEADER.size <= len(view):
            stream, length = _HEADER.unpack_from(view, at)
            end = at + _HEADER.size + length
            if end > len(view):
                break
            payload = view[at + _HEADER.size : end]
            if stream == _STDERR:
                self.complain(bytes(payload))
            elif stream == _STDOUT:
                found.append(payload)
            at = end
        stdout = b"".join(found)
        self._rest = bytes(view[at:])
        return stdout

    async def close(self) -> None:
        self._writer.transport.abort()  # nobody may read what is still to be written
        with suppress(OSError):
            await self._writer.wait_closed()


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Of an inspected container."""
    return dict(line.split("=", 1) for line in container["Config"]["Env"] or [] if "=" in line)
