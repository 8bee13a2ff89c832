"""What an archive of pg_dump's says it holds: pg_restore --list, of the archive as it passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.archives.streams import ByteStream
from app.components.postgresql_snapshot import gathered, stopped
from app.errors import ComponentError

_SECONDS = 300
#: What makes a hundred thousand tables; the rest is data.
_MOST_FED = 64 << 20


class Listing:
    """`restore`: what pg_restore --list prints of an archive. It reads the archive's beginning and ends; what comes
    later is not given to it any more, and nothing is kept."""

    def __init__(self, restore: Callable[[ByteStream], ByteStream]) -> None:
        self._restore = restore
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(2)
        self._task: asyncio.Task[bytes] | None = None
        self._fed = 0

    async def feed(self, chunk: bytes | None) -> None:
        """None: it has ended."""
        if self._task is None:
            self._task = asyncio.create_task(gathered(self._restore(self._beginning())))
        if self._task.done() or self._fed > _MOST_FED:
            return
        self._fed += _MOST_FED + 1 if chunk is None else len(chunk)
        if self._fed > _MOST_FED:
            chunk = None
        put = asyncio.create_task(self._chunks.put(chunk))
        await asyncio.wait({put, self._task}, timeout=_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not put.done():
            put.cancel()
            self._task.cancel()  # it hangs: the dump goes on

    async def _beginning(self) -> ByteStream:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    async def result(self) -> bytes:
        """After the archive's last byte. Raises ComponentError, DeploymentError."""
        await self.feed(None)
        assert self._task is not None
        done, _ = await asyncio.wait({self._task}, timeout=_SECONDS)
        if not done or self._task.cancelled():
            raise ComponentError("pg_restore did not list the dump in time")
        return self._task.result()

    async def close(self) -> None:
        """Idempotent."""
        if self._task is not None:
            await stopped(self._task)
