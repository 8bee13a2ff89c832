"""A transaction that reads a SQLite database where its site runs: while it is open its files fit each other.

Sources: https://sqlite.org/lockingv3.html, https://sqlite.org/walformat.html, and wal.c for what a reader keeps
others from (walRestartLog, walCheckpoint, walBeginShmUnreliable). See docs/decisions/0032.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from app.archives.streams import CHUNK, ByteStream
from app.deployments.base import Deployment, User
from app.deployments.process import raise_unless
from app.errors import CommandFailed, LiberuError, TargetMissing, ToolMissing

#: How long somebody who writes is waited for.
_BUSY_MS = 15_000
_ANSWER_SECONDS = 30
_PROBE_SECONDS = 30
#: Output comes in chunks of CHUNK bytes: what is to be seen now must fill one.
_PADDING = CHUNK + 4096
_MOST_OUTPUT = 2 * _PADDING

#: `schema_version` reads the header and takes the lock; no line of the database's schema is looked at.
_BEGIN = f"""\
.timeout {_BUSY_MS}
BEGIN;
PRAGMA schema_version;
PRAGMA journal_mode;
SELECT printf('held%{_PADDING}s', '');
"""
_COMMIT = "COMMIT;\nSELECT 'released';\n"
_CLIENT = ("sqlite3", "-init", "/dev/null", "-batch", "-bail", "-list", "-noheader")
#: Understands of its input only that it is to commit.
_PYTHON = f"""
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], uri=True, timeout={_BUSY_MS / 1000}, isolation_level=None)
database.execute("BEGIN")
for query in ("schema_version", "journal_mode"):
    print(database.execute("PRAGMA " + query).fetchone()[0])
print("held".ljust({_PADDING}), flush=True)
for line in sys.stdin:
    if line.startswith("COMMIT"):
        database.execute("COMMIT")
        print("released")
"""


class NotHeld(Exception):
    """No transaction could be begun, or it did not last. Says why, in a few words; never leaves a dump."""


@dataclass(frozen=True, slots=True)
class SqliteTool:
    """What opens SQLite databases there."""

    argv: tuple[str, ...]


async def sqlite_tool(deployment: Deployment) -> SqliteTool | None:
    """SQLite's own client, else a Python that has it; None: neither is there."""
    if "sqlite" not in deployment.tools:
        python = ("python3", "-I", "-S", "-B", "-c")
        found: SqliteTool | None = None
        if await _works(deployment, [*python, "import sqlite3"]):
            found = SqliteTool((*python, _PYTHON))
        if await _works(deployment, ["sqlite3", "-version"]):
            found = SqliteTool(_CLIENT)
        deployment.tools["sqlite"] = found
    tool: SqliteTool | None = deployment.tools["sqlite"]
    return tool


async def _works(deployment: Deployment, argv: list[str]) -> bool:
    try:
        result = await deployment.run(argv, check=False, timeout=_PROBE_SECONDS)
        raise_unless((0,), argv[0], result.status, result.stderr)
    except (ToolMissing, TargetMissing, CommandFailed, TimeoutError):
        return False
    return True


@asynccontextmanager
async def held(deployment: Deployment, tool: SqliteTool, path: bytes, user: User | None) -> AsyncGenerator[str, None]:
    """While this is open: in rollback mode nobody writes into the file; in WAL mode see `sqlite_copy`. Gives the
    journal's mode. `path`: absolute. The database is opened read only, confined, and nothing is made beside it.

    Raises NotHeld, also at the end, when the transaction had not lasted until then: nothing that was read counts.
    """
    lock = _Lock(deployment, tool, path, user)
    try:
        yield await lock.take()
        await lock.release()
    finally:
        await lock.close()


class _Lock:
    def __init__(self, deployment: Deployment, tool: SqliteTool, path: bytes, user: User | None) -> None:
        # Without readonly_shm a missing index of the WAL would be made beside the database.
        uri = f"file://{quote_from_bytes(path)}?mode=ro&readonly_shm=1"
        self._output = deployment.stream([*tool.argv, uri], input=self._input(), user=user, confined=True)
        self._released = asyncio.Event()
        self._held = asyncio.Event()
        self._said = bytearray()
        self._reading: asyncio.Task[None] | None = None

    async def _input(self) -> ByteStream:
        yield _BEGIN.encode()
        await self._released.wait()
        yield _COMMIT.encode()

    async def _read(self) -> None:
        async with aclosing(self._output) as output:
            async for chunk in output:
                if len(self._said) < _MOST_OUTPUT:
                    self._said += chunk
                if b"held" in self._said:
                    self._held.set()

    async def take(self) -> str:
        self._reading = asyncio.create_task(self._read())
        waiting = asyncio.create_task(self._held.wait())
        try:
            await asyncio.wait({self._reading, waiting}, timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._held.is_set():
            raise self._failure()
        return self._said.split()[1].decode("ascii", "replace")

    async def release(self) -> None:
        assert self._reading is not None
        self._released.set()
        await asyncio.wait({self._reading}, timeout=_ANSWER_SECONDS)
        if not self._said.rstrip().endswith(b"released") or not self._reading.done():
            raise self._failure()

    def _failure(self) -> NotHeld:
        if self._reading is None or not self._reading.done():
            return NotHeld("it does not answer")
        error = None if self._reading.cancelled() else self._reading.exception()
        if error is None:
            return NotHeld("its transaction ended early")
        said = error.stderr if isinstance(error, CommandFailed) else str(error)
        if not isinstance(error, LiberuError):
            raise error
        return NotHeld((said.strip().splitlines() or ["it cannot be opened"])[-1][-200:])

    async def close(self) -> None:
        """Closing its output ends the command."""
        if self._reading is None:
            await self._output.aclose()
            return
        self._reading.cancel()
        await asyncio.wait({self._reading})
        if not self._reading.cancelled():
            self._reading.exception()
