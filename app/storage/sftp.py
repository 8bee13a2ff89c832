"""Objects as files below a folder of an SSH server.

Sources: draft-ietf-secsh-filexfer-02 (SFTP version 3); OpenSSH's PROTOCOL file for posix-rename, fsync,
statvfs and limits.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import asyncssh
from asyncssh import SFTPAttrs, SFTPClient, SFTPClientFile

from app.errors import NoSpace, ObjectNotFound, SizeMismatch
from app.storage.base import (
    ObjectInfo,
    Options,
    StorageDriver,
    claimed_size,
    claimed_time,
    is_key,
    is_name,
    validate_key,
    validate_prefix,
)
from app.storage.config import SftpConfiguration
from app.storage.pages import MAX_IN_FOLDER, MAX_LISTED, MOST_SECONDS, Progress
from app.storage.settled import settled
from app.storage.sftp_connections import SftpConnections
from app.storage.spill import Stack
from app.storage.window import Window, in_order, regrouped

PIECE = 1 << 20
_IN_FLIGHT = 8  # pieces
_IN_FLIGHT_EACH = 3  # for each of several connections
_UPLOADS = 32  # at once: servers bound their open files
_TEMPORARY = ".put-"
_UNSUPPORTED = asyncssh.SFTPOpUnsupported
_TRIES = 20
T = TypeVar("T")


class SftpDriver(StorageDriver):
    """Pieces are written at their own offsets, so one that a broken line lost is written again; nothing else is kept.

    Where the server has no posix-rename, replacing an object leaves a moment without one.
    """

    def __init__(self, configuration: SftpConfiguration, options: Options) -> None:
        self._connections = SftpConnections(configuration, options)
        self._root = configuration.root.rstrip("/").encode()
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self._replacing = asyncio.Lock()

    def _path(self, key: str) -> bytes:
        return self._root + b"/" + validate_key(key).encode()

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        path = self._path(key)
        async with self._uploads:
            return _info(key, await self._put(key, path, stream, size))

    async def _put(self, key: str, path: bytes, stream: AsyncIterator[bytes], size: int | None) -> SFTPAttrs:
        what = f"Writing {key}"
        temporary = path.rpartition(b"/")[0] + f"/{_TEMPORARY}{secrets.token_hex(8)}".encode()
        try:
            await self._connections.call(what, lambda client: self._create(client, temporary))
            async with _RemoteFile(self._connections, temporary, asyncssh.FXF_WRITE, what) as file:
                written = await self._upload(file, stream)
                if size is not None and written != size:
                    raise SizeMismatch(f"{what}: the source gave {written} bytes instead of {size}")
                await file.call(0, _flush)
            return await settled(
                self._connections.call(what, lambda client: self._publish(client, temporary, path, written, what)),
                lambda stored: self._withdraw(path, stored),
            )
        except BaseException:
            await asyncio.shield(self._discard(temporary))
            raise

    async def _create(self, client: SFTPClient, temporary: bytes) -> None:
        attributes = SFTPAttrs(permissions=0o600)
        for left in reversed(range(_TRIES)):  # a deletion may remove a folder that we have just found or made
            try:
                await self._make_folder(client, temporary.rpartition(b"/")[0])
                flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC
                file = await client.open(temporary, flags, attributes, encoding=None)
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPFailure):
                if not left:
                    raise
            else:
                await file.close()
                return

    async def _make_folder(self, client: SFTPClient, folder: bytes) -> None:
        if folder in (b"", self._root) or await client.isdir(folder):
            return
        await self._make_folder(client, folder.rpartition(b"/")[0])
        try:
            await client.mkdir(folder, SFTPAttrs(permissions=0o700))
        except asyncssh.SFTPError:
            if not await client.isdir(folder):
                raise

    @staticmethod
    async def _upload(file: _RemoteFile, stream: AsyncIterator[bytes]) -> int:
        width = await file.connections.width()
        number = written = 0
        window = Window(_in_flight(width) * PIECE, file.connections.budget)
        async with window, aclosing(regrouped(stream, PIECE)) as pieces:
            async for piece in pieces:
                await window.add(file.write(number % width, piece, written), len(piece))
                written += len(piece)
                number += 1
        return written

    async def _publish(self, client: SFTPClient, temporary: bytes, path: bytes, written: int, what: str) -> SFTPAttrs:
        try:
            stored = await client.stat(temporary)
        except asyncssh.SFTPNoSuchFile:
            # The line broke after the server had renamed, before we heard of it.
            stored = await client.stat(path)
            if stored.size != written:
                raise
            return stored
        if stored.size != written:
            raise SizeMismatch(f"{what}: {stored.size} bytes are at the server, {written} were sent")
        try:
            await client.posix_rename(temporary, path)
        except _UNSUPPORTED:
            async with self._replacing:
                with suppress(asyncssh.SFTPNoSuchFile):
                    await client.remove(path)
                await client.rename(temporary, path)
        return stored

    async def _withdraw(self, path: bytes, stored: SFTPAttrs) -> None:
        """Take back what was published, unless it has been replaced since."""

        async def remove(client: SFTPClient) -> None:
            found = await client.stat(path)
            if (found.size, found.mtime) == (stored.size, stored.mtime):
                await client.remove(path)

        await self._connections.call("Cleaning up", remove)

    async def _discard(self, temporary: bytes) -> None:
        """Best effort: what stays is a temporary name, for the sweep."""
        with suppress(Exception):
            async with asyncio.timeout(10):
                await self._connections.call("Cleaning up", lambda client: client.remove(temporary))

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        path, what = self._path(key), f"Reading {key}"
        status = await self._connections.call(what, lambda client: client.stat(path))
        width = await self._connections.width()
        limit, budget = _in_flight(width), self._connections.budget
        async with _RemoteFile(self._connections, path, asyncssh.FXF_READ, what) as file:

            async def read(start: int, length: int) -> bytes:
                return await file.read(start // PIECE % width, start, length)

            size = claimed_size(key, status.size or 0)
            async with aclosing(in_order(read, offset, size, PIECE, limit, budget)) as pieces:
                async for piece in pieces:
                    yield piece

    async def stat(self, key: str) -> ObjectInfo:
        path = self._path(key)
        status = await self._connections.call(f"Looking up {key}", lambda client: client.lstat(path))
        if not stat.S_ISREG(status.permissions or stat.S_IFREG):
            raise ObjectNotFound(f"{key} is no file at the destination")
        return _info(key, status)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        whole = Progress(f"Listing {prefix or '/'}", MAX_LISTED, MOST_SECONDS)
        with Stack() as pending:
            pending.push(validate_prefix(prefix))
            while pending:
                current = pending.pop()
                with await self._scan(current) as found:
                    while found:
                        whole.seen(1)
                        name, mode, size, mtime = _parsed(found.pop())
                        key, when = f"{current}{name}", None if mtime < 0 else claimed_time(mtime)
                        if not is_key(key):
                            continue
                        if stat.S_ISDIR(mode):
                            pending.push(f"{key}/")
                        elif stat.S_ISREG(mode):
                            yield ObjectInfo(key, claimed_size(key, size), when)

    async def _scan(self, prefix: str, *, hidden: bool = False) -> Stack:
        """Names and attributes in a folder, see `_parsed`; what could be no part of a key is not ours. All of them,
        before the first is used: a line that breaks in between begins again."""
        folder, what = self._root + b"/" + prefix.encode(), f"Listing {prefix or '/'}"

        async def read(client: SFTPClient, progress: Progress) -> Stack:
            found = Stack()
            try:
                with suppress(asyncssh.SFTPNoSuchFile):
                    async for entry in client.scandir(folder):
                        progress.seen(1)
                        progress.read(len(entry.filename))
                        name = os.fsdecode(entry.filename)
                        if is_name(name) or (hidden and name.startswith(_TEMPORARY) and is_name(name[1:])):
                            mode, size, mtime = entry.attrs.permissions, entry.attrs.size, entry.attrs.mtime
                            found.push(f"{mode or 0} {size or 0} {-1 if mtime is None else mtime} {name}")
            except BaseException:
                found.close()
                raise
            return found

        async def scan(client: SFTPClient) -> Stack:
            progress = Progress(what, MAX_IN_FOLDER)
            return await progress.moving(read(client, progress), self._connections.timeout)

        return await self._connections.call(what, scan, timed=False)

    async def delete(self, key: str) -> None:
        path = self._path(key)

        async def remove(client: SFTPClient) -> None:
            with suppress(asyncssh.SFTPNoSuchFile):
                await client.remove(path)
            folder = path.rpartition(b"/")[0]
            with suppress(asyncssh.SFTPError):  # not empty, or gone
                while folder != self._root:
                    await client.rmdir(folder)
                    folder = folder.rpartition(b"/")[0]

        await self._connections.call(f"Deleting {key}", remove)

    async def _remove(self, path: bytes) -> None:
        with suppress(ObjectNotFound):
            await self._connections.call("Removing leftovers", lambda client: client.remove(path))

    async def connections(self) -> tuple[int, int] | None:
        return await self._connections.possible()

    async def free_bytes(self) -> int | None:
        async def ask(client: SFTPClient) -> int | None:
            try:
                space = await client.statvfs(self._root or b"/")
            except (_UNSUPPORTED, asyncssh.SFTPNoSuchFile):
                return None
            return int(space.bavail * space.frsize)

        return await self._connections.call("Asking for free space", ask)

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        count, whole = 0, Progress("Removing leftovers", MAX_LISTED, MOST_SECONDS)
        with Stack() as pending:
            pending.push(prefix)
            while pending:
                current = pending.pop()
                with await self._scan(current, hidden=True) as found:
                    while found:
                        whole.seen(1)
                        name, mode, _, mtime = _parsed(found.pop())
                        if stat.S_ISDIR(mode) and is_key(f"{current}{name}"):
                            pending.push(f"{current}{name}/")
                        elif name.startswith(_TEMPORARY) and _is_old(mode, mtime, older_than):
                            await self._remove(self._root + f"/{current}{name}".encode())
                            count += 1
        return count

    async def close(self) -> None:
        await self._connections.close()


def _in_flight(width: int) -> int:
    """Pieces at once over `width` connections."""
    return _IN_FLIGHT if width == 1 else width * _IN_FLIGHT_EACH


class _RemoteFile:
    """One file, open on as many connections as are used; opened again where one was replaced."""

    def __init__(self, connections: SftpConnections, path: bytes, flags: int, what: str) -> None:
        self.connections = connections
        self._path = path
        self._flags = flags
        self._what = what
        self._open: dict[int, tuple[SFTPClient, SFTPClientFile]] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def __aenter__(self) -> _RemoteFile:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, file in self._open.values():
            with suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await file.close()

    async def call(self, number: int, work: Callable[[SFTPClient, SFTPClientFile], Awaitable[T]]) -> T:
        async def on(client: SFTPClient) -> T:
            async with self._locks.setdefault(number, asyncio.Lock()):
                if number not in self._open or self._open[number][0] is not client:
                    # Without its own cutting of blocks: when one fails it forgets the others.
                    file = await client.open(self._path, self._flags, encoding=None, block_size=0)
                    self._open[number] = client, file
            return await work(*self._open[number])

        return await self.connections.call(self._what, on, number)

    async def write(self, number: int, piece: bytes, offset: int) -> None:
        async def write(client: SFTPClient, file: SFTPClientFile) -> None:
            step = client.limits.max_write_len
            parts = (file.write(piece[at : at + step], offset + at) for at in range(0, len(piece), step))
            try:
                await _all(parts)
            except asyncssh.SFTPFailure:
                # SFTP 3 has no code for a full disk.
                with suppress(asyncssh.SFTPError):
                    space = await file.statvfs()
                    if space.bavail * space.frsize < len(piece):
                        raise NoSpace(f"{self._what}: no space left at the destination") from None
                raise

        await self.call(number, write)

    async def read(self, number: int, offset: int, length: int) -> bytes:
        async def read(client: SFTPClient, file: SFTPClientFile) -> bytes:
            step = client.limits.max_read_len
            parts = (_whole(file, offset + at, min(step, length - at)) for at in range(0, length, step))
            return b"".join(await _all(parts))

        content = await self.call(number, read)
        if len(content) != length:
            raise SizeMismatch(f"{self._what}: the file ended at {offset + len(content)}, it was longer before")
        return content


async def _all(parts: Iterable[Awaitable[Any]]) -> list[Any]:
    """Every result, or the first error once all have ended."""
    results = await asyncio.gather(*parts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def _whole(file: SFTPClientFile, offset: int, length: int) -> bytes:
    """A server may answer a read with less than was asked for."""
    content = b""
    while len(content) < length:
        part: Any = await file.read(length - len(content), offset + len(content))
        if not part:
            break
        content += part
    return content


async def _flush(client: SFTPClient, file: SFTPClientFile) -> None:
    with suppress(_UNSUPPORTED):
        await file.fsync()


def _info(key: str, status: SFTPAttrs) -> ObjectInfo:
    return ObjectInfo(key, claimed_size(key, status.size or 0), claimed_time(status.mtime))


def _is_old(mode: int, mtime: int, older_than: datetime) -> bool:
    return not stat.S_ISDIR(mode) and mtime < older_than.timestamp()


def _parsed(line: str) -> tuple[str, int, int, int]:
    """Name, mode, size and time of an entry that `_scan` has kept; -1 for a time that was not told."""
    mode, size, mtime, name = line.split(" ", 3)
    return name, int(mode), int(size), int(mtime)
