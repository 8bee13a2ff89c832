"""A look at a tree before it is read: what tar would get wrong in silence, what it leaves out, what is mounted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from app.archives.streams import ByteStream
from app.components.base import MAX_NAMED, Report
from app.components.sqlite_copy import BESIDE
from app.components.sqlite_files import NAMES, Candidates
from app.components.tar_tool import TarTool, excluded, shortened, shown
from app.deployments.base import STAGING_PREFIX, Deployment, Outcome, User
from app.deployments.mounts import mounts_in
from app.errors import DumpIncomplete

_PATH_MAX = 4096
#: A restore extracts into <folder>/.liberu-restore-<operation>/new; names of operations have 32 letters.
_STAGING = len(f"/{STAGING_PREFIX}{'0' * 36}/new")
_MOST_TOO_LONG = 10_000
_NAMED = 20
#: Where more files than that take fewer blocks than their size they are compressed, not sparse.
_MOST_SPARSE = 1000
_WORTH_KEEPING = 1 << 20
_CHECK_SECONDS = 900

#: stdin: blocks, a space and a path, each with a zero byte. Prints "no" when --sparse must not be used: GNU tar 1.34
#: stores a file that is said to take no blocks as zeros without a look (sparse.c, sparse_scan_file_wholesparse), and
#: where the system cannot tell holes takes a read error for the file's end and says nothing (sparse_scan_file_raw).
#: What a tenant puts in a file's place meanwhile must neither be followed nor waited for.
_CHECK_HOLES = r"""
command -v tr >/dev/null || { echo no; exit; }
exec xargs -0 sh -c '
  read_all() { dd if="$1" iflag=nonblock,nofollow bs=1M 2>/dev/null; }
  for record do
    file=${record#* }
    [ -r "$file" ] || continue
    case $record in
      "0 "*) count=$({ read_all "$file" || echo x; } | tr -d "\000" | head -c 1 | wc -c); [ "$count" -eq 0 ] ;;
      *) read_all "$file" >/dev/null ;;
    esac || { echo no; exit 255; }
  done' sh
"""


@dataclass(slots=True)
class Survey:
    """`sparse`: whether tar may keep holes; `holes`: how many bytes they are. `xattrs`: whether the folder's file
    system has any. `too_long`: paths below `./` that no restore could make. `left_out`: entries that exclusions leave
    out, folders as one; None: nobody counted. `no_files`: links and others that are no folders either, where these
    were asked for, the first 10,000. `mounts`: file systems that are mounted below and read, relative paths; None:
    nobody knows. `databases`: what may be SQLite's. `caches`: files that Redis or Valkey saves to, the first 20."""

    sparse: bool = False
    holes: int = 0
    xattrs: bool = True
    too_long: list[bytes] = field(default_factory=list)
    left_out: int | None = None
    no_files: list[bytes] = field(default_factory=list)
    mounts: list[str] | None = None
    databases: Candidates = field(default_factory=Candidates)
    caches: list[bytes] = field(default_factory=list)


def longest(folder: str) -> int:
    """How many bytes a path in `folder` may have so that the system can name it where a restore extracts it."""
    return _PATH_MAX - 1 - len(folder.encode("utf-8", "surrogateescape")) - _STAGING - 1


async def survey(
    deployment: Deployment,
    tool: TarTool,
    folder: str,
    reader: User | None,
    exclusions: Sequence[str],
    *,
    only_files: bool = False,
) -> Survey:
    """Raises DeploymentError, DumpIncomplete."""
    found = Survey(mounts=await mounts_in(deployment, folder))
    if not tool.gnu:
        return found
    anchored, floating = excluded(exclusions)
    walk = _Walk(deployment, folder, reader, [*anchored, *(f"*/{pattern}" for pattern in floating)])
    found.xattrs = bool(found.mounts) or await _has_xattrs(deployment, folder, reader)
    if await walk.first(found, only_files=only_files):
        found.sparse = await walk.may_keep_holes(found.holes)
    return found


async def _has_xattrs(deployment: Deployment, folder: str, reader: User | None) -> bool:
    """Where there are none tar complains of each file, and nothing else would be heard of."""
    argv = ["tar", "--create", "--xattrs", "--no-recursion", "--file=-", "."]
    result = await deployment.run(argv, cwd=folder, user=reader, check=False)
    return "listxattr: Operation not supported" not in result.stderr


class _Walk:
    """GNU find over what tar will read. Paths are compared byte by byte."""

    def __init__(self, deployment: Deployment, folder: str, reader: User | None, patterns: Sequence[str]) -> None:
        self._deployment = deployment
        self._folder = folder
        self._reader = reader
        self._start = ["find", ".", "-path", f"./{STAGING_PREFIX}*", "-prune", "-o"]
        self._start += ["(", *_any(patterns), ")", "-prune", "-printf", r"x\0", "-o"]
        too_long = "?" * (longest(folder) + 3) + "*"  # with its "./"
        self._start += ["-path", too_long, "-prune", "-printf", r"l%p\0", "-o"]
        self._sparse = 0

    async def first(self, found: Survey, *, only_files: bool = False) -> bool:
        """Fill in what a walk tells; False when there is no GNU find."""
        points = {f"./{_glob(point)}": point for point in (found.mounts or [])[:MAX_NAMED]}
        points = {pattern: point for pattern, point in points.items() if _plain_text(point)}
        mounted = ["(", "(", *_any(list(points)), ")", "-printf", r"m%p\0", "-o", "-true", ")"] if points else []
        outcome, left_out, entered = Outcome(), 0, set[str]()
        others = ["!", "-type", "d", "!", "-type", "f", "-printf", r"n%p\0", "-o"] if only_files else _DATABASES
        argv = [*self._start, *others, *mounted, "-type", "f", "-size", "+511c", "-printf", r"%b %s\0"]
        async with aclosing(self._records(argv, outcome)) as records:
            async for record in records:
                if record == b"x":
                    left_out += 1
                elif record.startswith(b"l"):
                    found.too_long.append(record[1:])
                    if len(found.too_long) > _MOST_TOO_LONG:
                        raise DumpIncomplete(
                            f"{self._folder} holds more than {_MOST_TOO_LONG} paths that are too long to be "
                            f"restored, as {shown(record[1:200])}…: exclude their folder, or remove it"
                        )
                elif record.startswith(b"n"):
                    if len(found.no_files) < _MOST_TOO_LONG:
                        found.no_files.append(record[1:])
                elif record.startswith(b"d"):
                    found.databases.add(record[1:])
                elif record.startswith(b"r"):
                    if len(found.caches) < _NAMED:
                        found.caches.append(record[1:])
                elif record.startswith(b"m"):
                    entered.add(record[3:].decode("utf-8", "surrogateescape"))
                elif hole := _hole(record):
                    self._sparse += 1
                    found.holes += hole
        if outcome.status not in (0, 1):  # 1: something could not be looked at; tar will name it
            return False
        found.left_out = left_out
        if found.mounts is not None:
            asked = set(points.values())
            found.mounts = [point for point in found.mounts if point in entered or point not in asked]
        return True

    async def may_keep_holes(self, holes: int) -> bool:
        """Whether there are sparse files, few and large enough to be worth it, of which tar would lose nothing."""
        if self._sparse > _MOST_SPARSE or holes < _WORTH_KEEPING:
            return False
        names: list[bytes] = []
        argv = [*self._start, "-type", "f", "-size", "+511c", "-printf", r"%b %s %p\0"]
        async with aclosing(self._records(argv, Outcome())) as records:
            async for record in records:
                if record[:1].isdigit() and _hole(record):
                    blocks, _, path = record.split(b" ", 2)
                    names.append(b"%b %b\0" % (blocks, path))
                if len(names) > 2 * _MOST_SPARSE:
                    return False
        argv = ["sh", "-c", _CHECK_HOLES]
        try:
            result = await self._deployment.run(
                argv, input=b"".join(names), cwd=self._folder, user=self._reader, check=False, timeout=_CHECK_SECONDS
            )
        except TimeoutError:
            return False
        return result.status == 0 and not result.stdout

    async def _records(self, argv: Sequence[str], outcome: Outcome) -> AsyncGenerator[bytes, None]:
        stream: ByteStream = self._deployment.stream(
            argv, cwd=self._folder, user=self._reader, env={"LC_ALL": "C"}, accept=range(256), outcome=outcome
        )
        rest = b""
        async with aclosing(stream):
            async for chunk in stream:
                *whole, rest = (rest + chunk).split(b"\0")
                for record in whole:
                    yield record


def _hole(record: bytes) -> int:
    """How many bytes a file lacks: record is blocks of 512 bytes, its size, and maybe more."""
    blocks, size = record.split(b" ", 2)[:2]
    return max(0, int(size) - int(blocks) * 512)


def _any(patterns: Sequence[str], test: str = "-path") -> list[str]:
    words: list[str] = []
    for pattern in patterns:
        words += ["-o", test, pattern] if words else [test, pattern]
    return words


_SQLITE = _any([*NAMES, *(f"*{end.decode()}" for end in BESIDE)], "-iname")
#: What Redis and Valkey save to, by the names that they give themselves.
_CACHES = _any(["*.rdb", "appendonly*.aof"], "-name")
_DATABASES = [
    "(", "-type", "f",
    "(", "(", *_SQLITE, ")", "-printf", r"d%p\0", "-o", "(", *_CACHES, ")", "-printf", r"r%p\0", ")",
    "-o", "-true", ")",
]  # fmt: skip


def _glob(path: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[\\" else letter for letter in path)


def _plain_text(path: str) -> bool:
    """Not every deployment can pass other bytes as an argument."""
    return path.isprintable() or path.isascii()


def report_survey(found: Survey, report: Report, folder: str) -> None:
    """What a backup says of it."""
    if found.left_out is not None:
        report.facts["left_out"] = found.left_out
    if found.holes and not found.sparse:
        report.facts["holes"] = "stored as zeros"
    report_mounts(found.mounts, report)
    report_no_mail([path.removeprefix(b"./") for path in found.no_files], report)
    for path in found.caches:
        report.warn(
            "cache_not_backed_up",
            "Redis or Valkey seems to save to it: it is in the backup like any file, as it was last saved. What only "
            "its memory holds is a cache: not backed up",
            shortened(path.removeprefix(b"./")),
        )
    for path in found.too_long:
        report_too_long(path.removeprefix(b"./"), report, folder)


def report_no_mail(names: Sequence[bytes], report: Report) -> None:
    """One warning for all of them."""
    if names:
        told = ", ".join(shortened(name) for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        report.warn(
            "not_mail", f"left out: mail holds folders and files only, and these are links or others: {told}{more}"
        )


def report_mounts(mounts: list[str] | None, report: Report) -> None:
    if mounts is None:
        report.warn("mounts_unknown", "which file systems are mounted in this folder could not be found out")
        return
    names = [shown(point.encode("utf-8", "surrogateescape")) for point in mounts]
    report.facts["mounts"] = names[:MAX_NAMED]
    for name in names:
        report.warn(
            "mount_included",
            "another file system is mounted here, and its files are in the backup; exclude it if they are elsewhere",
            name,
        )


def report_too_long(path: bytes, report: Report, folder: str) -> None:
    report.lack(
        "path_too_long",
        f"its path has {len(path)} bytes, and below {folder} no more than {longest(folder)} can be restored: it and "
        "all below it are left out; shorten it, or exclude it",
        shortened(path),
    )
