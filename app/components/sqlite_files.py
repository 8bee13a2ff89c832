"""SQLite databases in a site's tree: which there are, which are copied so that they fit, and a word on the others.

They are known by the ends of their names, or by a WAL or a journal beside them, and by their first bytes. See
docs/decisions/0032.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from app.archives.streams import ByteStream
from app.components.base import MAX_NAMED, Report
from app.components.sqlite_copy import BESIDE, NotCopied, SqliteCopier
from app.components.sqlite_lock import sqlite_tool
from app.components.tar_tool import TarTool, shortened, shown
from app.deployments.base import Deployment, User
from app.errors import DeploymentError

#: In find's words, without regard to case.
NAMES = ("*.db", "*.db3", "*.sqlite", "*.sqlite3")
_ALL_BESIDE = (*BESIDE, b"-shm")
#: Names are kept of so many, and so many are copied for so long: a tree may hold a million.
MOST_KEPT = 10_000
_MOST_COPIED = 200
_COPY_SECONDS = 900
_LOOK_SECONDS = 120
_NO_TAR = "the tar there can leave nothing out: install GNU tar, and sqlite3"
_NO_TIME = f"{_MOST_COPIED} others, or {_COPY_SECONDS // 60} minutes, were spent on copies already"

#: stdin: paths with a zero byte each. A line for each: y: a database, u: it cannot be read, n: neither.
_LOOK = r"""
exec xargs -0 sh -c '
  for file do
    if [ ! -f "$file" ] || [ -L "$file" ]; then echo n
    elif [ ! -r "$file" ]; then echo u
    elif [ "$(head -c 15 -- "$file" 2>/dev/null)" = "SQLite format 3" ]; then echo y
    else echo n; fi
  done' sh
"""
#: Prints the database's path for each that has something beside it.
_IN_USE = r"""
exec find . -type f '(' -name '*-wal' -o -name '*-journal' ')' -exec sh -c '
  for file do
    base=${file%-*}
    [ -f "$base" ] && [ ! -L "$base" ] && [ "$(head -c 15 -- "$base" 2>/dev/null)" = "SQLite format 3" ] &&
      printf "%s\0" "$base"
  done' sh {} +
"""


@dataclass(slots=True)
class Candidates:
    """Paths below './' that may be databases, and what lies beside each. `more`: they were more than are kept."""

    found: dict[bytes, set[bytes]] = field(default_factory=dict)
    more: bool = False

    def add(self, path: bytes) -> None:
        suffix = next((end for end in BESIDE if path.endswith(end)), b"")
        base = path.removesuffix(suffix)
        if base not in self.found and len(self.found) >= MOST_KEPT:
            self.more = True
            return
        beside = self.found.setdefault(base, set())
        if suffix:
            beside.add(suffix)


class SqliteFiles:
    """Those of one tree. `user`: the site's, who opens them; None: whoever we are, or nobody."""

    def __init__(self, deployment: Deployment, folder: str, user: User | None, report: Report) -> None:
        self._deployment = deployment
        self._folder = folder
        self._user = user
        self._report = report
        self._copied: list[bytes] = []

    @property
    def left_out(self) -> Sequence[bytes]:
        """What `members` stands for, and tar must not read; paths below './'."""
        return [path + end for path in self._copied for end in (b"", *_ALL_BESIDE)]

    async def members(self, tar: TarTool, candidates: Candidates) -> ByteStream:
        """Members of the tree's archive, to come before all others, without an end."""
        if candidates.more:
            self._report.warn("sqlite_not_consistent", f"more than {MOST_KEPT} names are those of SQLite databases")
        ends = time.monotonic() + _COPY_SECONDS
        databases = await self._databases(candidates)
        tool = await sqlite_tool(self._deployment) if databases else None
        copier = SqliteCopier(self._deployment, tar, tool, self._folder, self._user)
        for path, beside in databases:
            if len(self._copied) >= _MOST_COPIED or time.monotonic() > ends:
                self._tell(path, _NO_TIME, in_use=bool(beside))
            else:
                try:
                    copy = await copier.copy(path, frozenset(beside))
                except NotCopied as error:
                    self._tell(path, str(error), in_use=True)
                    continue
                self._copied.append(path)
                async with aclosing(copy) as stream:
                    async for chunk in stream:
                        yield chunk
        if self._copied:
            names = [shown(path.removeprefix(b"./")) for path in self._copied]
            self._report.facts["sqlite"] = {"copied": len(names), "names": names[:MAX_NAMED]}

    async def _databases(self, candidates: Candidates) -> list[tuple[bytes, set[bytes]]]:
        """Those that are, those in use first; what the site's user cannot read is named."""
        known = sorted(candidates.found.items(), key=lambda item: (not item[1], item[0]))
        if not known:
            return []
        paths = b"".join(path + b"\0" for path, _ in known)
        try:
            looked = await self._deployment.run(
                ["sh", "-c", _LOOK],
                input=paths,
                cwd=self._folder,
                user=self._user,
                check=False,
                timeout=_LOOK_SECONDS,
            )
            answers = looked.stdout.split()
        except (DeploymentError, TimeoutError):
            answers = []
        if len(answers) != len(known):
            answers = [b"u"] * len(known)
        for (path, beside), answer in zip(known, answers, strict=True):
            if answer == b"u":
                self._tell(path, "the site's user cannot read it", in_use=bool(beside))
        return [item for item, answer in zip(known, answers, strict=True) if answer == b"y"]

    async def name_those_in_use(self) -> None:
        """Where the tar can leave nothing out."""
        argv = ["sh", "-c", _IN_USE]
        try:
            found = await self._deployment.run(
                argv, cwd=self._folder, user=self._user, check=False, timeout=_LOOK_SECONDS
            )
        except (DeploymentError, TimeoutError):
            self._report.warn("sqlite_not_consistent", f"whether SQLite databases are in use is unknown; {_NO_TAR}")
            return
        for path in sorted(set(found.stdout.split(b"\0")[:-1])):
            self._tell(path, _NO_TAR, in_use=True)

    def _tell(self, path: bytes, reason: str, *, in_use: bool) -> None:
        if in_use:
            warn_of(path, reason, self._report)


def warn_of(path: bytes, reason: str, report: Report) -> None:
    report.warn(
        "sqlite_not_consistent",
        "a SQLite database is in the backup as its files were read, one after the other: what was written meanwhile "
        f"may be lost, or the database damaged ({reason})",
        shortened(path.removeprefix(b"./")),
    )
