"""SQLite databases of a tree as members of its archive that fit each other, whoever writes meanwhile.

Each is read by the tar there while a transaction holds it (`sqlite_lock`). In rollback mode nobody can write into the
file then. In WAL mode the database is read first and its WAL after it: the WAL is only appended to, so that what a
checkpoint has moved meanwhile is in both, and what is torn at its end has a wrong checksum. There is one exception: a
WAL of which all was moved before is begun anew, and then the database alone is whole. It is told by the WAL's
header, which is written first and is never the same again.

Where no transaction can be had (no tool, no index of the WAL since nobody is connected, a journal to be rolled back,
a lock that somebody keeps) the files are read together, and count when none of them has changed meanwhile: they are
then what a crash would have left, which SQLite repairs.
"""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from app.archives.streams import CHUNK, ByteStream, SourceReader, consume
from app.components.base import Report
from app.components.sqlite_lock import NotHeld, SqliteTool, held
from app.components.tar_tool import TarTool, judge_stderr
from app.deployments.base import Deployment, Outcome, User
from app.errors import DeploymentError
from app.sizes import human_size

MAGIC = b"SQLite format 3\0"
#: What SQLite keeps beside a database in use; the index of a WAL goes with it.
BESIDE = (b"-wal", b"-journal")
#: A database and its WAL together, in bytes, and what must stay free where they are kept meanwhile.
LARGEST = 2 << 30
_RESERVE = 1 << 30
#: In rollback mode whoever writes waits for us; in WAL mode nobody does.
_SECONDS = {"wal": 300}
_ROLLBACK_SECONDS = 10
_UNHELD_SECONDS = 300
#: Of a WAL all of its header, of a database the part that tells its mode: https://sqlite.org/fileformat2.html.
_HEADER = 32
_WRITE_VERSION, _WAL = 18, 2
_COMMAND_SECONDS = 10
_ATTEMPTS = 3
#: A file whose time is as old as this shows another one once it is written.
_SETTLED_SECONDS = 2
#: Argument: a database. Its mode's byte, whether somebody has its WAL open, the state of its files, then the time.
_STATE = r"""
head -c 19 -- "$1" 2>/dev/null | tail -c 1; echo
if [ -e "$1-wal" ] && [ -e "$1-shm" ]; then echo y; else echo n; fi
stat -c "%n %i %s %y %z %Z" -- "$1" "$1-wal" "$1-journal" 2>/dev/null
date +%s
"""


class NotCopied(Exception):
    """Says why, in a few words: the database is in the archive as any file is."""


@dataclass(frozen=True, slots=True)
class _State:
    """Of a database's files. `closed`: in WAL mode, and nobody is connected: who opens it then makes files beside it,
    read only or not. `settled`: none was changed lately."""

    files: list[bytes]
    closed: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in an archive that tar has made: where its headers begin, and where what follows it does."""

    info: tarfile.TarInfo
    start: int
    end: int


class SqliteCopier:
    """`user`: who reads; None: whoever we are. `folder`: the tree's. `tool`: None: there is none."""

    def __init__(
        self, deployment: Deployment, tar: TarTool, tool: SqliteTool | None, folder: str, user: User | None
    ) -> None:
        self._deployment = deployment
        self._tar = tar
        self._tool = tool
        self._folder = folder
        self._user = user

    async def copy(self, path: bytes, beside: frozenset[bytes]) -> ByteStream:
        """The members that stand for the database at `path` (below './') and for what lies `beside` it: the end of
        its name. Raises NotCopied; nothing is given before all of it is there."""
        try:
            name = path.decode()
        except UnicodeDecodeError:
            name = "\n"
        if not name.isprintable():  # not every deployment can pass it
            raise NotCopied("its name cannot be given to the tools there")
        spool = await asyncio.to_thread(_spool)
        try:
            await self._fill(spool, PurePosixPath(name))
            ends = await asyncio.to_thread(_ends, spool, path, beside)
        except BaseException:
            spool.close()
            raise
        return _given(spool, *ends)

    async def _fill(self, spool: IO[bytes], path: PurePosixPath) -> None:
        """Read into `spool` what fits together. Raises NotCopied."""
        why = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_SETTLED_SECONDS + 1)
            with _told():
                try:
                    await self._held(spool, path)
                    return
                except NotHeld as error:
                    why = str(error)
                if await self._at_rest(spool, path):
                    return
        raise NotCopied(f"it is being written, and {why}")

    async def _held(self, spool: IO[bytes], path: PurePosixPath) -> None:
        """In a transaction. Raises NotHeld, NotCopied."""
        if self._tool is None:
            raise NotHeld("neither sqlite3 nor python3 with SQLite is there where the site runs: install sqlite3")
        if (await self._state(path)).closed:
            raise NotHeld("nobody was connected to it when it was looked at")
        whole = os.fsencode(f"{self._folder.rstrip('/')}/{path}")
        async with held(self._deployment, self._tool, whole, self._user) as mode:
            wal = mode == "wal"
            await self._read(spool, path, (b"-wal",) if wal else (), _SECONDS.get(mode, _ROLLBACK_SECONDS))
            if wal:
                header = await self._run(path, ["head", "-c", str(_HEADER), "--", f"./{path.name}-wal"])
                await asyncio.to_thread(_cut_begun_anew, spool, header)

    async def _at_rest(self, spool: IO[bytes], path: PurePosixPath) -> bool:
        """Without one; whether nothing has changed meanwhile. Raises NotCopied."""
        before = await self._state(path)
        if not before.settled:
            return False
        await self._read(spool, path, BESIDE, _UNHELD_SECONDS)
        return (await self._state(path)).files == before.files

    async def _state(self, path: PurePosixPath) -> _State:
        """Raises NotCopied when it is not there."""
        said = await self._run(path, ["sh", "-c", _STATE, "sh", f"./{path.name}"])
        version, _, rest = said.partition(b"\n")
        try:
            connected, *files, now = rest.strip(b"\n").split(b"\n")
            newest = max(int(line.rpartition(b" ")[2]) for line in files)
            settled = newest + _SETTLED_SECONDS <= int(now)
        except ValueError:
            raise NotCopied("it is not there any more") from None
        return _State(files, version == bytes([_WAL]) and connected == b"n", settled)

    async def _run(self, path: PurePosixPath, argv: list[str]) -> bytes:
        result = await self._deployment.run(
            argv, cwd=self._within(path), user=self._user, check=False, timeout=_COMMAND_SECONDS
        )
        return result.stdout

    def _within(self, path: PurePosixPath) -> str:
        """The folder that a file is in: entered without following a link."""
        return f"{self._folder.rstrip('/')}/{path.parent}"

    async def _read(self, spool: IO[bytes], path: PurePosixPath, beside: Sequence[bytes], seconds: float) -> None:
        """The database, and then what is `beside` it, by the tar there."""
        outcome, report = Outcome(), Report()
        names = [f"{path.name}{end}" for end in ("", *(end.decode() for end in beside))]
        source = self._deployment.stream(
            self._tar.create_named(names, str(path.parent)),
            cwd=self._within(path),
            user=self._user,
            accept=(0, 1, 2),
            outcome=outcome,
        )
        try:
            async with asyncio.timeout(seconds):
                await consume(source, lambda reader: _written(reader, spool), "SQLite database")
        except TimeoutError:
            raise NotCopied(f"reading it takes longer than the {seconds:.0f} seconds it may be held") from None
        judge_stderr(outcome.stderr, report)
        if path.name in report.facts.get("not_whole", []) or report.incomplete:
            raise NotCopied("it could not be read")


@contextmanager
def _told() -> Iterator[None]:
    """What a command may fail with is no failure of the backup."""
    try:
        yield
    except DeploymentError as error:
        raise NotCopied(error.message[:500]) from error
    except TimeoutError:
        raise NotCopied("a command there does not end") from None


def _spool() -> IO[bytes]:
    """A file without a name; where there is one in /var/tmp, since /tmp may be memory."""
    with suppress(OSError):
        return tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp"))  # noqa: S108  it has no name there
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise NotCopied(f"the service has no folder to keep it in meanwhile ({error.strerror})") from error


def _written(reader: SourceReader, spool: IO[bytes]) -> None:
    spool.seek(0)
    spool.truncate()
    status = os.fstatvfs(spool.fileno())
    most = min(LARGEST, status.f_bavail * status.f_frsize - _RESERVE)
    size = 0
    try:
        for chunk in reader.chunks():
            size += len(chunk)
            if size > most:
                raise NotCopied(f"it is larger than the {human_size(max(most, 0))} that can be kept meanwhile")
            spool.write(chunk)
        spool.flush()
    except OSError as error:
        raise NotCopied(f"it cannot be kept meanwhile ({error.strerror})") from error


def _members(spool: IO[bytes]) -> list[_Member]:
    """Those of tar's archive in `spool`, which has few."""
    spool.seek(0)
    found: list[_Member] = []
    start = 0
    try:
        with tarfile.open(fileobj=spool, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while len(found) <= 1 + len(BESIDE) and (info := archive.next()) is not None:
                end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                found.append(_Member(info, start, end))
                start = end
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise NotCopied("tar's output cannot be read") from error
    if any(not member.info.isreg() or member.info.issparse() for member in found):
        raise NotCopied("it is no plain file any more")
    return found


def _cut_begun_anew(spool: IO[bytes], header: bytes) -> None:
    """Take the WAL away that was begun anew while it was read, or ended: the database alone is whole then."""
    members = _members(spool)
    if len(members) < 2:
        return
    spool.seek(members[1].info.offset_data)
    read = spool.read(min(_HEADER, members[1].info.size))
    if len(read) < _HEADER or read != header:
        spool.truncate(members[1].start)


def _ends(spool: IO[bytes], path: bytes, beside: frozenset[bytes]) -> tuple[int, bytes]:
    """How much of `spool` is to be given, and what after it: what lies beside a database comes as an empty file, so
    that a restore into a live tree leaves none there that belongs to another state. Raises NotCopied."""
    members = _members(spool)
    names = [os.fsencode(member.info.name) for member in members]
    if names[:1] != [path] or not {*names[1:]} <= {path + end for end in BESIDE}:
        raise NotCopied("it is not there any more")
    spool.seek(members[0].info.offset_data)
    header = spool.read(_HEADER)
    if not header.startswith(MAGIC):
        raise NotCopied("it is no SQLite database any more")
    empty = {b"-wal", b"-shm"} if header[_WRITE_VERSION] == _WAL else beside & {b"-journal"}
    further = sorted(end for end in empty if path + end not in names)
    return members[-1].end, b"".join(_empty(members[0].info, end) for end in further)


def _empty(info: tarfile.TarInfo, suffix: bytes) -> bytes:
    """A header with the database's owner, permissions and ACL, as SQLite itself would make the file."""
    made = tarfile.TarInfo(info.name + suffix.decode())
    made.mode, made.uid, made.gid, made.mtime = info.mode, info.uid, info.gid, info.mtime
    made.pax_headers = {key: text for key, text in info.pax_headers.items() if key.startswith("SCHILY.acl.")}
    return made.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


async def _given(spool: IO[bytes], size: int, further: bytes) -> AsyncGenerator[bytes, None]:
    with closing(spool):
        await asyncio.to_thread(spool.seek, 0, io.SEEK_SET)
        while size and (chunk := await asyncio.to_thread(spool.read, min(CHUNK, size))):
            size -= len(chunk)
            yield chunk
        if further:
            yield further
