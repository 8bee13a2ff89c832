"""A folder as a tar stream: what is in it, and a word on everything that is not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from app.archives.streams import ByteStream, from_bytes
from app.archives.tar import TarScanner
from app.components.base import Dump, Report
from app.components.sqlite_copy import BESIDE
from app.components.sqlite_files import SqliteFiles, warn_of
from app.components.tar_reader import tar_reader
from app.components.tar_tool import judge_stderr, pattern_of, probe, shown
from app.components.tree_survey import longest, report_mounts, report_survey, report_too_long, survey
from app.deployments.base import Deployment, Outcome, User
from app.errors import CommandFailed, DumpIncomplete

_END = bytes(1024)
_MOST_BESIDE = 20


class EndMarker:
    """Watches for tar's end: two zero blocks, and a length in whole blocks.

    `named`: note which file is being read, for a tar that does not say which one it ended at.
    """

    def __init__(self, *, named: bool = False) -> None:
        self._tail = b""
        self._size = 0
        self._scanner = TarScanner() if named else None
        self._last: bytes | None = None

    async def watch(self, stream: ByteStream) -> ByteStream:
        async with aclosing(stream):
            async for chunk in stream:
                self._size += len(chunk)
                self._tail = chunk[-1024:] if len(chunk) >= 1024 else (self._tail + chunk)[-1024:]
                if self._scanner is not None:
                    for member in self._scanner.feed(chunk):
                        self._last = member.path
                yield chunk

    def verify(self, said: str = "") -> None:
        """`said`: tar's own words. Raises DumpIncomplete."""
        if self._tail != _END or self._size % 512:
            where = "" if self._last is None else f" in {shown(self._last) or '.'}"
            why = f" ({said})" if said else ""
            raise DumpIncomplete(f"tar's output does not end with an end-of-archive marker: it was cut{where}{why}")


async def dump_tree(
    deployment: Deployment,
    folder: str,
    reader: User | None,
    exclusions: Sequence[str],
    owner: User,
    *,
    only_files: bool = False,
) -> Dump:
    """A folder as a tar stream; what could not be read, or could not be restored, makes the report incomplete, each
    named. `owner`: whose folder it is, and who reads it where root must not (see `tar_reader`). `only_files`: links
    and all that is neither a folder nor a file are left out, where the tools there can; a restore of mail leaves them
    out in any case.

    SQLite databases in use come first, each as it was at one time (`sqlite_files`).

    Of the report's facts a restore needs: `exclusions`, the patterns as they were used, and how many entries they
    have `left_out`; `mounts`, file systems that were mounted below and are in the stream; `not_whole`, files whose
    content is not all theirs. Names as `tar_tool.shown` writes them. Raises TargetMissing; the stream raises
    CommandFailed and DumpIncomplete.
    """
    report = Report()
    await deployment.tree.status(folder)
    tool = await probe(deployment, report)
    report.facts["exclusions"] = list(exclusions) if tool is not None and tool.gnu else []
    if tool is None:
        return await _from_archive(deployment, folder, report)
    if not tool.gnu:
        await _report_leftovers(deployment, folder, report)
    reader = reader or await tar_reader(deployment, tool, owner, report)
    found = await survey(deployment, tool, folder, reader, exclusions, only_files=only_files)
    report_survey(found, report, folder)
    # Never root: what a tenant has made is opened by SQLite.
    tenant = owner if deployment.privileged and owner.uid != 0 else None
    sqlite = SqliteFiles(deployment, folder, tenant, report)
    if not tool.gnu and not only_files:
        await sqlite.name_those_in_use()
    outcome, marker = Outcome(), EndMarker(named=not tool.gnu)

    async def output() -> ByteStream:
        async with aclosing(sqlite.members(tool, found.databases)) as members:
            async for chunk in members:
                yield chunk
        left_out = b"".join(pattern_of(path) + b"\n" for path in (*found.too_long, *found.no_files, *sqlite.left_out))
        tree = deployment.stream(
            tool.create(exclusions, sparse=found.sparse, xattrs=found.xattrs, listed=bool(left_out)),
            input=from_bytes(left_out) if left_out else None,
            cwd=folder,
            user=reader,
            accept=(0, 1, 2),
            outcome=outcome,
        )
        async with aclosing(tree) as stream:
            async for chunk in stream:
                yield chunk

    def verify() -> None:
        understood = judge_stderr(outcome.stderr, report)
        marker.verify(outcome.stderr.strip()[-500:])
        # Status 2 is fatal unless every complaint is about a file that could not be read, each named.
        if outcome.status == 2 and not (understood and report.incomplete):
            raise CommandFailed("tar", 2, outcome.stderr[-2000:])

    return Dump(marker.watch(output()), report, verify)


_LEFTOVERS = 'for found in ./.liberu-restore-*; do [ ! -d "$found" ] || echo "${found#./}"; done'


async def _report_leftovers(deployment: Deployment, folder: str, report: Report) -> None:
    """A tar that can leave nothing out stores what a restore has left as well."""
    found = await deployment.run(["sh", "-c", _LEFTOVERS], cwd=folder, timeout=60)
    for name in found.stdout.decode("utf-8", "backslashreplace").splitlines()[:20]:
        report.warn("leftover_included", "an earlier restore has left it, and it is in the backup: remove it", name)


async def _from_archive(deployment: Deployment, folder: str, report: Report) -> Dump:
    """Through the engine, which knows no exclusions and names nothing that it cannot read."""
    archive = deployment.archive
    assert archive is not None
    report_mounts(await archive.mounts(folder), report)
    most = longest(folder)
    beside: list[bytes] = []

    def kept(path: bytes, device: bool) -> bool:
        if path.endswith(BESIDE) and len(beside) < _MOST_BESIDE:
            beside.append(path)
        if device:
            report.warn("device_left_out", "a device, which a site cannot have", shown(path))
        elif len(path) > most:
            report_too_long(path, report, folder)
        return not device and len(path) <= most

    async def output() -> ByteStream:
        async with aclosing(archive.read(folder, kept)) as stream:
            async for chunk in stream:
                yield chunk
        for path in sorted({path.rpartition(b"-")[0] for path in beside}):
            warn_of(path, "there is no tar where the site runs; one that is stopped is not in use", report)

    return Dump(output(), report)
