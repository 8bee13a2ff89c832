"""What an archive said it holds, to compare with what is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

from app.archives.tar import Member

_DEVICES, _FILES = ("c", "b"), ("f", "h")
_ASKED = 500
_MOST_NAMES = 8 << 20
_Row = tuple[str, int, tuple[int, int]]


class MemberList:
    """What an archive said it holds, to compare with what was extracted.

    Up to `most` members, or 8 MiB of their names, are kept in memory, which is about 25 MiB; with more, all of them
    go to a temporary SQLite file: memory is flat at millions. Use from one thread at a time. Devices are apart: only
    root can make one, and a site needs none. `count`: of all, `files`: of files and their other names.
    """

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._members: dict[bytes, _Row] = {}
        self._devices: dict[bytes, None] = {}
        self._seen: set[bytes] = set()
        self._owners: dict[tuple[int, int], tuple[int, int]] = {}
        self._named = 0
        self._spilt: _SpiltMembers | None = None
        self.count = self.files = 0

    def add(self, members: list[Member]) -> None:
        """A later member of the same name replaces the earlier one, as tar does."""
        self.count += len(members)
        self.files += sum(member.type in _FILES for member in members)
        if self._spilt is not None:
            self._spilt.add(members)
            return
        for member in members:
            path = member.path
            self._named += len(path)
            if member.type in _DEVICES:
                self._devices[path] = None
            elif path:
                owner = (member.uid, member.gid)
                self._members[path] = (member.type, member.size, self._owners.setdefault(owner, owner))
                self._seen.discard(path)
        if len(self._members) + len(self._devices) > self._most or self._named > _MOST_NAMES:
            self._spill()

    def _spill(self) -> None:
        self._spilt = _SpiltMembers(self._members, self._devices, self._seen)
        self._members, self._devices, self._seen, self._owners = {}, {}, set(), {}

    def compare(self, found: list[tuple[bytes, str, int]], *, extra: bool = False) -> list[str]:
        """Tick off (path, type, size) of what was extracted; say of each that differs how. `extra`: others may be
        there."""
        if self._spilt is not None:
            return self._spilt.compare(found, extra=extra)
        differences: list[str] = []
        for path, type, size in found:
            if type in _DEVICES and path in self._devices:
                continue
            row = self._members.get(path)
            if row is None:
                if extra:
                    continue
            else:
                self._seen.add(path)
            _tell(differences, path, row, type, size)
        return differences

    def known(self, paths: Sequence[bytes]) -> set[bytes]:
        """Those of `paths` that are members."""
        if self._spilt is not None:
            return self._spilt.known(paths)
        return {path for path in paths if path in self._members}

    def devices(self, limit: int) -> list[bytes]:
        if self._spilt is not None:
            return self._spilt.devices(limit)
        return list(islice(self._devices, limit))

    def missing(self, limit: int) -> list[bytes]:
        if self._spilt is not None:
            return self._spilt.missing(limit)
        return list(islice((path for path in self._members if path not in self._seen), limit))

    def owned_by_others(self, uid: int, gid: int) -> Iterator[tuple[bytes, int, int]]:
        """(path, uid, gid) of members that do not belong to `uid` and group `gid`, sorted."""
        if self._spilt is not None:
            yield from self._spilt.owned_by_others(uid, gid)
            return
        if not self._owners.keys() - {(uid, gid)}:
            return
        for path in sorted(path for path, row in self._members.items() if row[2] != (uid, gid)):
            yield (path, *self._members[path][2])

    def close(self) -> None:
        if self._spilt is not None:
            self._spilt.close()


class _SpiltMembers:
    """As MemberList, in a temporary SQLite file."""

    def __init__(self, members: dict[bytes, _Row], devices: Iterable[bytes], seen: Iterable[bytes]) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE member (path BLOB PRIMARY KEY, type, size, uid, gid, seen DEFAULT 0)")
        self._database.execute("CREATE TABLE device (path BLOB PRIMARY KEY)")
        rows = ((path, type, size, *owner) for path, (type, size, owner) in members.items())
        self._insert(rows)
        self._insert_devices((path,) for path in devices)
        self._tick(seen)

    def _insert(self, rows: Iterable[tuple[bytes, str, int, int, int]]) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO member (path, type, size, uid, gid) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _insert_devices(self, rows: Iterable[tuple[bytes]]) -> None:
        self._database.executemany("INSERT OR REPLACE INTO device (path) VALUES (?)", rows)

    def _tick(self, paths: Iterable[bytes]) -> None:
        self._database.executemany("UPDATE member SET seen = 1 WHERE path = ?", ((path,) for path in paths))

    def add(self, members: list[Member]) -> None:
        self._insert((m.path, m.type, m.size, m.uid, m.gid) for m in members if m.path and m.type not in _DEVICES)
        self._insert_devices((m.path,) for m in members if m.type in _DEVICES)

    def compare(self, found: list[tuple[bytes, str, int]], *, extra: bool) -> list[str]:
        differences: list[str] = []
        for path, type, size in found:
            if type in _DEVICES and self._is_device(path):
                continue
            row = self._database.execute("SELECT type, size FROM member WHERE path = ?", (path,)).fetchone()
            if row is not None or not extra:
                _tell(differences, path, row, type, size)
        self._tick(path for path, _, _ in found)
        return differences

    def known(self, paths: Sequence[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        for start in range(0, len(paths), _ASKED):
            some = paths[start : start + _ASKED]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(f"SELECT path FROM member WHERE path IN ({marks})", some)
            found.update(row[0] for row in rows)
        return found

    def _is_device(self, path: bytes) -> bool:
        return self._database.execute("SELECT 1 FROM device WHERE path = ?", (path,)).fetchone() is not None

    def devices(self, limit: int) -> list[bytes]:
        return [row[0] for row in self._database.execute("SELECT path FROM device LIMIT ?", (limit,))]

    def missing(self, limit: int) -> list[bytes]:
        rows = self._database.execute("SELECT path FROM member WHERE seen = 0 LIMIT ?", (limit,))
        return [row[0] for row in rows]

    def owned_by_others(self, uid: int, gid: int) -> Iterator[tuple[bytes, int, int]]:
        query = "SELECT path, uid, gid FROM member WHERE uid <> ? OR gid <> ? ORDER BY path"
        with closing(self._database.cursor()) as cursor:
            yield from cursor.execute(query, (uid, gid))

    def close(self) -> None:
        self._database.close()


def _tell(differences: list[str], path: bytes, row: tuple[str, int] | _Row | None, type: str, size: int) -> None:
    difference = _difference(row, type, size)
    if difference is not None:
        differences.append(f"{path.decode('utf-8', 'backslashreplace')} {difference}")


def _difference(row: tuple[str, int] | _Row | None, type: str, size: int) -> str | None:
    """A hard link may be any kind of file: its size stands with its first name."""
    if row is None:
        return "is not in the archive"
    expected_type, expected_size = row[:2]
    if "h" in (expected_type, type):
        return None
    if type != expected_type:
        return f"is of type {type} instead of {expected_type}"
    if type == "f" and size != expected_size:
        return f"holds {size} bytes instead of {expected_size}"
    return None
