"""A foreign archive's members on our disk: an index, and one file with their contents.

Nothing of it is extracted under its own name, so no name in an archive means anything to our file system.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import IO

from app.archives.streams import CHUNK
from app.archives.tar import Member
from app.errors import ArchiveInvalid, NoSpace
from app.external.items import MAX_LINK, Item, key, shown, text, usable
from app.external.room import Room
from app.external.sparse import segments, zeros
from app.sizes import human_size

_NAMED = 100
_ROW = 100
_HEAD = 4096
_SEALED = "sealed"
_COUNTED = "counted"
_COLUMNS = "path, type, size, mode, mtime, link, offset, stored, sparse"
_OPEN = """
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS member (path BLOB PRIMARY KEY, type, size, mode, mtime, link, offset, stored, sparse);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS warning (text TEXT);
"""


#: Called in every loop over what is staged, with how many bytes were read.
Tick = Callable[[int], None]


def _pass(_: int) -> None:
    """Where nobody counts."""


class Staged:
    """Use from one thread at a time. `reserve`: bytes that stay free on the disk.

    An archive is read into it without a journal, and sealed; what is added later (nested archives) is there whole
    after a kill, or not at all."""

    def __init__(self, folder: Path, reserve: int = 0, tick: Tick = _pass) -> None:
        self.folder = folder
        self.tick = tick
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._room = Room(folder, reserve)
        self._open()
        try:
            self._database.executescript(_OPEN)
        except sqlite3.DatabaseError:  # a kill while the archive was being read
            self.begin()

    def _open(self) -> None:
        self._blob: IO[bytes] = (self.folder / "content").open("a+b")
        self._database = sqlite3.connect(self.folder / "index", check_same_thread=False)

    def close(self) -> None:
        """What was not committed is lost."""
        self._database.close()
        self._blob.close()

    def begin(self) -> None:
        """Forget what an earlier attempt has left."""
        self.close()
        for name in ("content", "index", "index-wal", "index-shm"):
            (self.folder / name).unlink(missing_ok=True)
        self._open()
        self._database.executescript("PRAGMA journal_mode = OFF;" + _OPEN)

    def seal(self) -> None:
        """The archive has been read whole. It counts until the machine restarts: nothing is forced to the disk."""
        self.mark(_SEALED, _boot())
        self._database.execute("PRAGMA journal_mode = WAL")

    @property
    def sealed(self) -> bool:
        try:
            return self.fact(_SEALED) == _boot()
        except sqlite3.DatabaseError:
            return False

    def rollback(self) -> None:
        """Forget what was added since the last commit."""
        self._database.rollback()

    @property
    def end(self) -> int:
        """Where content goes that is written next."""
        return self._blob.seek(0, 2)

    def need(self, size: int) -> None:
        """Before so many bytes are written in its folder. Raises NoSpace."""
        self._room.need(size)

    def write(self, data: bytes) -> None:
        """Raises NoSpace."""
        self.need(len(data))
        try:
            self._blob.write(data)
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.OperationalError) or getattr(error, "errno", None) in (ENOSPC, EDQUOT):
            return NoSpace(
                f"No space left to stage the archive in {self.folder.parent}: {error}; it needs its whole size"
            )
        return error

    def mark(self, name: str, value: str) -> None:
        """Remember a fact, and commit everything before it."""
        self._database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))
        self.commit()

    def commit(self) -> None:
        """Let others see what was added."""
        self._blob.flush()
        self._database.commit()

    def fact(self, name: str) -> str | None:
        row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def keep_count(self, counted: Sequence[int]) -> None:
        """What a budget has counted so far, for whoever reads on; and commit."""
        self.mark(_COUNTED, " ".join(map(str, counted)))

    @property
    def counted(self) -> list[int]:
        return [int(count) for count in (self.fact(_COUNTED) or "0 0 0 0 0").split()]

    def warn(self, text: str) -> None:
        self._database.execute("INSERT INTO warning VALUES (?)", (text,))

    @property
    def warnings(self) -> list[str]:
        """What was left out: the first hundred, and how many there were."""
        rows = self._database.execute("SELECT text FROM warning ORDER BY rowid LIMIT ?", (_NAMED,))
        found = [str(row[0]) for row in rows]
        [(count,)] = self._database.execute("SELECT count(*) FROM warning")
        return found if count <= _NAMED else [*found, f"{count} members in all were left out"]

    def add(self, member: Member, prefix: bytes, offset: int) -> None:
        """Index a member whose content begins at `offset`; one whose name cannot be used is left out, with a warning.
        A later member of the same name replaces the earlier one, as tar does."""
        path = usable(member.path)
        if not member.path:
            return
        if path is None:
            self.warn(f"{shown(member.path[:200])}: an absolute, escaping or too long name; left out")
            return
        link = member.link
        if len(link) > MAX_LINK:
            self.warn(f"{shown(path[:200])}: a link whose target is too long; left out")
            return
        self.need(_ROW + len(path) + len(link) + len(member.sparse or ""))
        if member.type == "h":
            target = usable(_plain(link))
            if target is None:
                self.warn(f"{shown(path)}: a hard link to something outside; left out")
                return
            link = prefix + target
        values = (prefix + path, member.type, member.size, member.mode, member.mtime, link, offset, member.stored)
        try:
            self._database.execute(
                f"INSERT OR REPLACE INTO member ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", (*values, member.sparse)
            )
        except sqlite3.OperationalError as error:
            raise self._full(error) from error

    def get(self, path: str | bytes) -> Item | None:
        row = self._database.execute(f"SELECT {_COLUMNS} FROM member WHERE path = ?", (key(path),)).fetchone()
        return None if row is None else Item(*row)

    def below(self, folder: str) -> Iterator[Item]:
        """Everything in a folder, at any depth, by name; "" is the whole archive."""
        inside = key(folder)
        query, values = f"SELECT {_COLUMNS} FROM member", tuple[bytes, ...]()
        if inside:
            query, values = f"{query} WHERE path > ? AND path < ?", (inside + b"/", inside + b"0")
        with closing(self._database.cursor()) as cursor:
            for row in cursor.execute(f"{query} ORDER BY path", values):
                self.tick(0)
                yield Item(*row)

    def names(self, folder: str = "") -> Iterator[str]:
        """What lies directly in a folder, whether or not the archive has members for folders."""
        return (text(name) for name in self._names(key(folder) + b"/" if folder else b""))

    def _names(self, prefix: bytes) -> Iterator[bytes]:
        bound = prefix
        while True:
            self.tick(0)  # one look-up for each name: a folder may hold millions of members below
            row = self._database.execute(
                "SELECT path FROM member WHERE path >= ? ORDER BY path LIMIT 1", (bound,)
            ).fetchone()
            if row is None or not row[0].startswith(prefix):
                return
            name, inside, _ = row[0][len(prefix) :].partition(b"/")
            if not inside or self.get(prefix + name) is None:  # else it has come by itself before
                yield name
            bound = prefix + name + (b"0" if inside else b"\0")  # "0" comes right after "/"

    def files(self, folder: str) -> Iterator[Item]:
        """The plain files directly in a folder."""
        prefix = key(folder) + b"/" if folder else b""
        found = (self.get(prefix + name) for name in self._names(prefix))
        return (item for item in found if item is not None and item.type == "f")

    def exists(self, path: str) -> bool:
        return self.get(path) is not None or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        item = self.get(path)
        return item.type == "d" if item is not None else next(self.below(path), None) is not None

    def size(self, item: Item) -> int:
        """In bytes, of what a hard link names too."""
        target = self.get(item.link) if item.type == "h" else item
        return 0 if target is None else target.size

    def read(self, item: Item) -> Iterator[bytes]:
        """A member's content in chunks, the holes of a sparse file as zeros. Raises ArchiveInvalid."""
        if item.type == "h":
            target = self.get(item.link)
            if target is None or target.type != "f":
                raise ArchiveInvalid(f"{shown(item.path)} is a hard link to something that is not in the archive")
            item = target
        if item.sparse is None:
            yield from self.stored(item.offset, item.size)
            return
        at = 0
        for hole, offset, length in segments(item, self.stored):
            yield from zeros(hole)
            yield from self.stored(offset, length)
            at += hole + length
        yield from zeros(item.size - at)

    def head(self, item: Item) -> bytes:
        """A member's first bytes, as many as tell what it is."""
        return next(self.read(item), b"")[:_HEAD]

    def text(self, item: Item, limit: int = CHUNK) -> str:
        """A small member's content. Raises ArchiveInvalid when it is not small."""
        if item.size > limit:
            raise ArchiveInvalid(f"{shown(item.path)} holds {human_size(item.size)} where a small file is expected")
        return b"".join(self.read(item)).decode("utf-8", "replace")

    def text_of(self, path: str, limit: int = CHUNK) -> str:
        """A small plain file's content, "" when it is not there. Raises ArchiveInvalid when it is not small."""
        item = self.get(path)
        return self.text(item, limit) if item is not None and item.type == "f" else ""

    def stored(self, offset: int, length: int) -> Iterator[bytes]:
        """Part of the content file."""
        with (self.folder / "content").open("rb") as file:
            file.seek(offset)
            while length > 0:
                data = file.read(min(length, CHUNK))
                if not data:
                    raise ArchiveInvalid("The staged content is shorter than its index says")
                length -= len(data)
                self.tick(len(data))
                yield data

    def raw(self, item: Item) -> Reader:
        """A member's stored bytes, to be read as an archive of its own."""
        self._blob.flush()
        return Reader(self.folder / "content", item.offset, item.stored)


class Reader:
    """A part of the content file."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._left = length

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _boot() -> str:
    """What tells one start of the machine from another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _plain(link: bytes) -> bytes:
    while link.startswith(b"./"):
        link = link[2:]
    return link
