"""Objects as files below a folder of an FTP or FTPS server."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from aioftp.errors import StatusCodeError

from app.errors import (
    DestinationBusy,
    DestinationInvalid,
    DestinationUnreachable,
    ObjectNotFound,
    SizeMismatch,
    StorageError,
    StoragePermissionDenied,
)
from app.storage.base import (
    ObjectInfo,
    Options,
    StorageDriver,
    claimed_size,
    is_key,
    is_name,
    validate_key,
    validate_prefix,
)
from app.storage.config import FtpConfiguration
from app.storage.ftp_session import Data, FtpSession, mapped
from app.storage.pages import MAX_IN_FOLDER, MAX_LISTED, MOST_SECONDS, Progress
from app.storage.patience import Patience
from app.storage.settled import settled
from app.storage.spill import Stack
from app.storage.window import regrouped

PIECE = 1 << 20
#: FTP confirms nothing before its end: what may still be on its way when a line breaks is kept, and sent again.
WINDOW = 16 << 20
_SESSIONS = 4
_NOTICES = 15
_TRIES = 10
_PAGE = 1 << 16
_MAX_LINE = 1 << 14
_TEMPORARY = ".put-"
T = TypeVar("T")


class FtpDriver(StorageDriver):
    """An upload that breaks goes on with APPE after what SIZE says, a download with REST.

    Where a server refuses to rename over a file, replacing an object leaves a moment without one.
    """

    def __init__(self, configuration: FtpConfiguration, options: Options) -> None:
        self._configuration = configuration
        self._options = options
        self._root = configuration.root.rstrip("/")
        self._idle: list[FtpSession] = []
        self._connections = options.connections
        self._limit = asyncio.Semaphore(_SESSIONS)
        self._reached = False

    def _path(self, key: str) -> str:
        return f"{self._root}/{validate_key(key)}"

    @asynccontextmanager
    async def _session(self, what: str) -> AsyncGenerator[FtpSession, None]:
        """A session of our own for one operation; one that ended badly is not used again. Raises StorageError."""
        async with self._limit:
            session = self._taken()
            if session is None:
                session = await self._connections.open(
                    partial(self._opened, what), self._options.resume_seconds, self._taken
                )
            try:
                with mapped(what):
                    yield session
            except BaseException as error:
                if _refusal(error.__cause__):  # it leaves a session in order; anything else does not
                    self._put_aside(session)
                else:
                    self._close(session)
                raise
            self._put_aside(session)

    async def _opened(self, what: str) -> FtpSession:
        session = FtpSession(self._configuration, self._options.guard)
        try:
            with mapped(what):
                await session.open()
        except BaseException:
            session.close()
            raise
        self._reached = True
        return session

    def _taken(self) -> FtpSession | None:
        """An idle session, which nobody can take from us any more."""
        if not self._idle:
            return None
        session = self._idle.pop()
        self._connections.idle.pop(session, None)
        return session

    def _put_aside(self, session: FtpSession) -> None:
        """For the next operation; another driver of this destination may have it closed, for want of a connection."""
        self._idle.append(session)
        self._connections.set_aside(session, lambda: self._give_up(session))

    def _give_up(self, session: FtpSession) -> None:
        self._idle.remove(session)
        session.close()

    def _close(self, session: FtpSession) -> None:
        session.close()
        self._connections.closed(session)

    async def _call(self, what: str, work: Callable[[FtpSession], Awaitable[T]], *, timed: bool = True) -> T:
        """Run `work`, which can be repeated; a server that was never reached is not tried again. `timed`: False for
        work whose every wait has a timeout of its own."""
        patience = Patience(self._options.resume_seconds)
        while True:
            try:
                async with (
                    self._session(what) as session,
                    asyncio.timeout(self._configuration.timeout if timed else None),
                ):
                    return await work(session)
            except DestinationUnreachable as error:
                if not self._reached:
                    raise
                self._forget_idle()
                await patience.again(error)

    def _forget_idle(self) -> None:
        """What broke one session has probably broken the others."""
        while (session := self._taken()) is not None:
            self._close(session)

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        path, what = self._path(key), f"Writing {key}"
        temporary = f"{path.rpartition('/')[0]}/{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            async with aclosing(regrouped(stream, PIECE)) as pieces:
                written = await self._upload(what, temporary, pieces)
            if size is not None and written != size:
                raise SizeMismatch(f"{what}: the source gave {written} bytes instead of {size}")
            await settled(
                self._call(what, lambda session: self._publish(session, temporary, path, written, what)),
                lambda _: self._withdraw(path, written),
            )
        except BaseException as error:
            await asyncio.shield(self._discard(temporary))
            if isinstance(error, _SourceFailed):
                raise error.error from None
            raise
        return ObjectInfo(key, written, datetime.now(UTC))

    async def _withdraw(self, path: str, written: int) -> None:
        """Take back what was published, unless it has been replaced since."""

        async def remove(session: FtpSession) -> None:
            if await session.size(path) == written:
                await session.command(f"DELE {path}", "2xx")

        await self._call("Cleaning up", remove)

    async def _make_folders(self, what: str, folder: str) -> None:
        async def make(session: FtpSession) -> None:
            for left in reversed(range(_TRIES)):  # a deletion may remove one that we have just found or made
                try:
                    await self._make_folder(session, folder)
                    return
                except StatusCodeError:
                    if not left:
                        raise

        await self._call(what, make)

    async def _make_folder(self, session: FtpSession, folder: str) -> None:
        if folder in ("", self._root):
            return
        if await self._is_folder(session, folder):
            return
        await self._make_folder(session, folder.rpartition("/")[0])
        try:
            await session.command(f"MKD {folder}", "2xx")
        except StatusCodeError:
            await session.command(f"CWD {folder}", "2xx")  # another upload may have made it

    async def _upload(self, what: str, temporary: str, pieces: AsyncGenerator[bytes, None]) -> int:
        """Send everything, over as many connections as it takes; return the number of bytes."""
        folder, tries = temporary.rpartition("/")[0], _TRIES
        await self._make_folders(what, folder)
        window = _Window()
        patience = Patience(self._options.resume_seconds)
        there = 0
        while True:
            try:
                if window.sent:
                    there = await self._arrived(what, temporary, window)
                    if window.ended and there == window.sent:
                        return there
                command = f"APPE {temporary}" if there else f"STOR {temporary}"
                async with self._session(what) as session, session.data(command) as data:
                    for again in window.after(there):
                        await data.write(again)
                    while True:
                        self._connections.starved[session] = partial(_abort, session, data)
                        piece = await window.read(pieces)
                        self._connections.starved.pop(session, None)
                        if piece is None:
                            break
                        await data.write(piece)
                        patience.progressed()
                return window.sent
            except (ObjectNotFound, StoragePermissionDenied):
                tries -= 1
                if window.sent or not tries:
                    raise
                await self._make_folders(what, folder)  # a deletion has removed it
            except DestinationUnreachable as error:
                if not self._reached:
                    raise
                self._forget_idle()
                await patience.again(error)

    async def _arrived(self, what: str, temporary: str, window: _Window) -> int:
        """How much of the temporary file the server has. Raises StorageError when the rest is not kept any more."""
        try:
            there = await self._call(what, lambda session: session.size(temporary))
        except ObjectNotFound:
            there = 0
        if not window.sent - window.kept <= there <= window.sent:
            raise StorageError(
                f"{what}: the line broke, and {window.sent - there} bytes that were sent did not arrive"
            )
        return there

    async def _publish(self, session: FtpSession, temporary: str, path: str, written: int, what: str) -> None:
        try:
            stored = await session.size(temporary)
        except StatusCodeError:
            if await session.size(path) == written:  # renamed, but we did not hear of it
                return
            raise
        if stored != written:
            raise SizeMismatch(f"{what}: {stored} bytes are at the server, {written} were sent")
        await session.command(f"RNFR {temporary}", "350")
        try:
            await session.command(f"RNTO {path}", "2xx")
        except StatusCodeError:
            with suppress(StatusCodeError):  # gone meanwhile
                await session.command(f"DELE {path}", "2xx")
            await session.command(f"RNFR {temporary}", "350")
            await session.command(f"RNTO {path}", "2xx")

    async def _discard(self, temporary: str) -> None:
        """Best effort: what stays is a temporary name, for the sweep."""
        with suppress(Exception):
            async with asyncio.timeout(15):
                await self._call("Cleaning up", lambda session: session.command(f"DELE {temporary}", "2xx"))

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        path, what = self._path(key), f"Reading {key}"
        size = (await self.stat(key)).size
        patience = Patience(self._options.resume_seconds)
        while offset < size:
            try:
                async with self._session(what) as session, session.data(f"RETR {path}", offset) as data:
                    while chunk := await data.read(PIECE):
                        offset += len(chunk)
                        if offset > size:
                            raise SizeMismatch(f"{what}: the server sends more than the {size} bytes it told of")
                        patience.progressed()
                        self._connections.reading[session] = partial(_abort, session, data)
                        yield chunk
                        self._connections.reading.pop(session, None)
                if offset < size:
                    raise DestinationUnreachable(f"{what}: the server ended at {offset} of {size} bytes")
            except DestinationUnreachable as error:
                self._forget_idle()
                await patience.again(error)

    async def stat(self, key: str) -> ObjectInfo:
        path = self._path(key)

        async def ask(session: FtpSession) -> ObjectInfo:
            size = await session.size(path)
            with suppress(StatusCodeError, ValueError):
                _, info = await session.command(f"MDTM {path}", "213")
                when = datetime.strptime(info[0].strip()[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                return ObjectInfo(key, size, when)
            return ObjectInfo(key, size)

        return await self._call(f"Looking up {key}", ask)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        whole = Progress(f"Listing {prefix or '/'}", MAX_LISTED, MOST_SECONDS)
        with Stack() as pending:
            pending.push(validate_prefix(prefix))
            while pending:
                current = pending.pop()
                with await self._scan(current) as found:
                    while found:
                        whole.seen(1)
                        kind, size, modified, name = found.pop().split(" ", 3)
                        key = f"{current}{name}"
                        if not is_key(key):
                            continue
                        if kind == "dir":
                            pending.push(f"{key}/")
                        elif kind == "file":
                            yield ObjectInfo(key, claimed_size(key, size), _time(modified))

    async def _scan(self, prefix: str, *, hidden: bool = False) -> Stack:
        """`type size time name` of what is in a folder and could be part of a key, or a temporary file of ours; all
        of it, before the first is used: a line that breaks in between begins again. The folder is entered first,
        since a name could look like an option."""
        what = f"Listing {prefix or '/'}"

        async def scan(session: FtpSession) -> Stack:
            found = Stack()
            try:
                folder = f"{self._root}/{prefix}".rstrip("/") or "/"
                async with asyncio.timeout(self._configuration.timeout):
                    if not await self._is_folder(session, folder):
                        return found
                try:
                    await self._read_listing(session, "MLSD", session.parse_mlsx_line, what, found, hidden)
                except StatusCodeError:
                    try:
                        await self._read_listing(session, "LIST -a", session.parse_list_line, what, found, hidden)
                    except StatusCodeError:
                        if await self._is_folder(session, folder):
                            raise
                        # A deletion has removed it since it was entered.
            except BaseException:
                found.close()
                raise
            return found

        return await self._call(what, scan, timed=False)

    @staticmethod
    async def _is_folder(session: FtpSession, path: str) -> bool:
        """Enters it when it is one."""
        try:
            await session.command(f"CWD {path}", "2xx")
        except StatusCodeError:
            return False
        return True

    @staticmethod
    async def _read_listing(
        session: FtpSession, command: str, parse: Callable[[bytes], Any], what: str, found: Stack, hidden: bool
    ) -> None:
        progress = Progress(what, MAX_IN_FOLDER)
        async with session.data(command) as data:
            async for line in _lines(data, what, progress):
                progress.seen(1)
                with suppress(ValueError, IndexError, KeyError):  # a line that describes no file, as "total 8"
                    path, facts = parse(line)
                    name, kind = str(path), str(facts["type"])
                    if is_name(name) or (hidden and name.startswith(_TEMPORARY) and is_name(name[1:])):
                        size, modified = (str(facts.get(fact) or "-") for fact in ("size", "modify"))
                        if not any(" " in word or "\n" in word for word in (kind, size, modified)):
                            found.push(f"{kind} {size} {modified} {name}")

    async def delete(self, key: str) -> None:
        path = self._path(key)

        async def remove(session: FtpSession) -> None:
            try:
                await session.command(f"DELE {path}", "2xx")
            except StatusCodeError:
                try:
                    await session.size(path)
                except StatusCodeError as missing:
                    if str(missing.received_codes[-1]) == "550":
                        return
                raise  # it is there, or the server cannot tell: never take that for deleted
            folder = path.rpartition("/")[0]
            with suppress(StatusCodeError):  # not empty
                await session.command(f"CWD {self._root or '/'}", "2xx")
                while folder != self._root:
                    await session.command(f"RMD {folder}", "2xx")
                    folder = folder.rpartition("/")[0]

        await self._call(f"Deleting {key}", remove)

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        count, whole = 0, Progress("Removing leftovers", MAX_LISTED, MOST_SECONDS)
        with Stack() as pending:
            pending.push(prefix)
            while pending:
                current = pending.pop()
                with await self._scan(current, hidden=True) as found:
                    while found:
                        whole.seen(1)
                        kind, _, modified, name = found.pop().split(" ", 3)
                        when = _time(modified)
                        if kind == "dir" and is_key(f"{current}{name}"):
                            pending.push(f"{current}{name}/")
                        elif kind != "dir" and name.startswith(_TEMPORARY) and when and when < older_than:
                            await self._remove(f"{self._root}/{current}{name}")
                            count += 1
        return count

    async def _remove(self, path: str) -> None:
        with suppress(ObjectNotFound):
            await self._call("Removing leftovers", lambda session: session.command(f"DELE {path}", "2xx"))

    async def connections(self) -> tuple[int, int] | None:
        self._forget_idle()
        opened: list[FtpSession] = []
        try:
            for _ in range(_NOTICES):  # a server may still count those that were just closed
                with suppress(DestinationBusy):
                    while len(opened) < _SESSIONS:
                        more = partial(self._opened, "Connecting once more")
                        opened.append(await self._connections.try_to_open(more))
                if opened:
                    break
                await asyncio.sleep(0.2)
            return len(opened), _SESSIONS
        finally:
            for session in opened:
                await session.end()
                self._connections.closed(session)

    async def close(self) -> None:
        while (session := self._taken()) is not None:
            await session.end()
            self._connections.closed(session)


class _SourceFailed(Exception):
    """Carries a source's own error past what is made of the line's."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Window:
    """The last pieces that were sent, whether they arrived or not."""

    def __init__(self) -> None:
        self.sent = 0
        self.kept = 0
        self.ended = False
        self._pieces: deque[bytes] = deque()

    async def read(self, pieces: AsyncGenerator[bytes, None]) -> bytes | None:
        """The source's next piece, kept; None at its end. Raises _SourceFailed."""
        if self.ended:
            return None
        try:
            piece = await anext(pieces, None)
        except Exception as error:
            raise _SourceFailed(error) from error
        if piece is None:
            self.ended = True
            return None
        self._pieces.append(piece)
        self.sent += len(piece)
        self.kept += len(piece)
        while self.kept - len(self._pieces[0]) >= WINDOW:
            self.kept -= len(self._pieces.popleft())
        return piece

    def after(self, offset: int) -> list[bytes]:
        """What was sent after `offset`, which must be kept."""
        skip = offset - (self.sent - self.kept)
        found = []
        for piece in self._pieces:
            if skip < len(piece):
                found.append(piece[max(skip, 0) :])
            skip -= len(piece)
        return found


def _abort(session: FtpSession, data: Data) -> None:
    data.abort()
    session.close()


def _refusal(cause: BaseException | None) -> bool:
    return isinstance(cause, StatusCodeError) and str(cause.received_codes[-1])[0] == "5"


async def _lines(data: Data, what: str, progress: Progress) -> AsyncGenerator[bytes, None]:
    """The lines of a listing. Raises DestinationInvalid for one that does not end."""
    rest = b""
    while chunk := await data.read(_PAGE):
        progress.read(len(chunk))
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _MAX_LINE:
            raise DestinationInvalid(f"{what}: the server sends a line that does not end")
    if rest:
        yield rest


def _time(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return None
