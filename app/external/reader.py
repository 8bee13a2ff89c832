"""ArchiveReader: foreign archives are read in a process of its own, which can be killed at any moment.

Whatever an archive makes a parser do, it happens there: with as much processor time as its size explains, with
bounded memory, with nothing of the service's environment, and never on the service's event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from app.archives.streams import ByteStream
from app.deployments.base import Outcome
from app.deployments.process import Process, stream_process
from app.errors import CommandFailed, ForeignArchiveError, ImportLimitExceeded, InvalidRequest, LiberuError, NoSpace
from app.external.inventory import Inventory
from app.external.limits import Limits
from app.external.staged import Staged

#: Where the package `app` lies: the process inherits nothing.
_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = ["-m", "app.external.child"]
_MEMORY = 2 << 30
_MAX_ANSWER = 512 << 20
_TOO_MUCH = f"The archive takes more than {_MEMORY >> 30} GiB of memory to read: it looks like a bomb"
_TOO_LONG = (
    "The archive takes more processor time to read than its size explains; raise LIBERU_IMPORTS__CPU_SECONDS if it "
    "is what it claims to be"
)


class ArchiveReader:
    """`folder`: what is read is kept there, and used again after a restart; the caller removes it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self._limits = limits

    async def ready(self) -> bool:
        """Whether the archive has been read to its end."""
        return await asyncio.to_thread(_sealed, self.folder)

    async def stage(self, source: ByteStream) -> None:
        """Read the archive to its last byte. Closes `source`. Raises ForeignArchiveError, NoSpace, and what `source`
        raises."""
        await self._run({}, source)

    async def inspect(
        self, format: str | None, domain: str | None, *, hashes: bool = False
    ) -> tuple[Inventory, dict[str, str]]:
        """Find out what made the archive, unless `format` says so, and what is in it; with `hashes` the mailboxes'
        crypt hashes too, by address. Raises ForeignArchiveError, InvalidRequest, NoSpace."""
        answer = await self._run({"inspect": {"format": format, "domain": domain, "hashes": hashes}}, None)
        return Inventory.from_dict(answer["inventory"]), answer["hashes"]

    async def _run(self, wanted: dict[str, Any], source: ByteStream | None) -> dict[str, Any]:
        order = {"parent": os.getpid(), "folder": str(self.folder), "limits": asdict(self._limits), "memory": _MEMORY}
        argv = [sys.executable, "-P", *_PROGRAM, json.dumps(order | wanted)]
        process = Process(argv, env={"PYTHONPATH": _ROOT, "PYTHONUTF8": "1"}, cwd_fd=None, user=None)
        outcome, answer = Outcome(), bytearray()
        async with aclosing(stream_process(process, source, range(-64, 256), outcome)) as output:
            async for chunk in output:
                answer += chunk
                if len(answer) > _MAX_ANSWER:
                    raise ImportLimitExceeded("The archive holds more than can be listed")
        return await asyncio.to_thread(_read, bytes(answer), outcome)


def _read(answer: bytes, outcome: Outcome) -> dict[str, Any]:
    """The child's answer. Raises the error that it is, or that its end was."""
    if outcome.status == -signal.SIGXCPU:
        raise ImportLimitExceeded(_TOO_LONG)
    try:
        found: dict[str, Any] = json.loads(answer) if outcome.status == 0 else {"error": ""}
    except ValueError:
        found = {"error": ""}
    if "error" in found:
        _raise(found, outcome)
    return found


def _raise(found: dict[str, Any], outcome: Outcome) -> NoReturn:
    code = found["error"]
    if code == "memory" or "MemoryError" in outcome.stderr[-2000:]:
        raise ImportLimitExceeded(_TOO_MUCH)
    known: list[type[LiberuError]] = [*_leaves(ForeignArchiveError), InvalidRequest, NoSpace]
    for error in known:
        if error.code == code:
            raise error(found["message"], field=found["field"])
    raise CommandFailed("the archive's reader", outcome.status or 0, outcome.stderr[-2000:])


def _leaves(error: type[LiberuError]) -> list[type[LiberuError]]:
    return [error, *(leaf for below in error.__subclasses__() for leaf in _leaves(below))]


def _sealed(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    staged = Staged(folder)
    try:
        return staged.sealed
    finally:
        staged.close()
