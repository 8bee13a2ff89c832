"""A folder as a tar stream: what is in it, and a word on everything that is not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from app.archives.streams import ByteStream
from app.components.base import Dump, Report
from app.components.tar_tool import judge_stderr, probe
from app.deployments.base import Deployment, Outcome, User
from app.errors import CommandFailed, DumpIncomplete

_END = bytes(1024)


class EndMarker:
    """Watches for tar's end: two zero blocks, and a length in whole blocks."""

    def __init__(self) -> None:
        self._tail = b""
        self._size = 0

    async def watch(self, stream: ByteStream) -> ByteStream:
        async with aclosing(stream):
            async for chunk in stream:
                self._size += len(chunk)
                self._tail = chunk[-1024:] if len(chunk) >= 1024 else (self._tail + chunk)[-1024:]
                yield chunk

    def verify(self) -> None:
        if self._tail != _END or self._size % 512:
            raise DumpIncomplete("tar's output does not end with an end-of-archive marker: it was cut")


async def dump_tree(deployment: Deployment, folder: str, reader: User | None, exclusions: Sequence[str]) -> Dump:
    """A folder as a tar stream; unreadable files make the report incomplete, each named.

    Raises TargetMissing; the stream raises CommandFailed and DumpIncomplete.
    """
    report = Report()
    await deployment.tree.status(folder)
    tool = await probe(deployment, report)
    if tool is None:
        assert deployment.archive is not None
        return Dump(deployment.archive.read(folder), report)
    outcome, marker = Outcome(), EndMarker()
    output = deployment.stream(
        tool.create(list(exclusions)), cwd=folder, user=reader, accept=(0, 1, 2), outcome=outcome
    )

    def verify() -> None:
        understood = judge_stderr(outcome.stderr, report)
        marker.verify()
        # Status 2 is fatal unless every complaint is about a file that could not be read, each named.
        if outcome.status == 2 and not (understood and report.incomplete):
            raise CommandFailed("tar", 2, outcome.stderr[-2000:])

    return Dump(marker.watch(output), report, verify)
