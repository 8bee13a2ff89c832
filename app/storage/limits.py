"""What a destination may be asked for, bytes per second and transfers at once; and how slow it may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import datetime

from app.storage.base import ObjectInfo, StorageDriver
from app.storage.throughput import Throughput
from app.storage.wrapped import WrappedDriver

#: An unused limit is saved up for this long, in seconds.
_BURST = 0.25


class Pace:
    """`rate` bytes per second over everybody who passes."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._free_at = 0.0

    async def passed(self, size: int) -> None:
        """Wait until `size` bytes may have passed."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - _BURST) + size / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Limits:
    """Of one destination, over all its drivers. `now`: transfers under way."""

    def __init__(self, bandwidth: int | None = None, transfers: int | None = None) -> None:
        self.wanted = (bandwidth, transfers)
        self.now = 0
        self.up = Pace(bandwidth) if bandwidth else None
        self.down = Pace(bandwidth) if bandwidth else None
        self.slots = asyncio.Semaphore(transfers) if transfers else None


class LimitedDriver(WrappedDriver):
    """A driver whose puts and gets keep to a destination's limits, and do not wait for one that is too slow; what it
    promises is the driver's own. `pace_counts`: `bandwidth` was set by whoever is waited for, and so is its wait."""

    def __init__(
        self,
        driver: StorageDriver,
        limits: Limits,
        throughput: Throughput | None = None,
        *,
        pace_counts: bool = False,
    ) -> None:
        super().__init__(driver)
        self._limits = limits
        self._throughput = throughput or Throughput(0, 1)
        self._pace_counts = pace_counts

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        async with self._transfer():
            try:
                async with asyncio.timeout(None) as limit:
                    return await self._driver.put(key, self._sent(stream, limit), size)
            except TimeoutError as error:
                if limit.expired():
                    raise self._throughput.still() from error
                raise

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        async with self._transfer(), aclosing(self._driver.get(key, offset)) as chunks:
            while True:
                asked = time.monotonic()
                chunk = await self._next(chunks)
                if chunk is None:
                    return
                self._moved(len(chunk), asked)
                await self._paced(self._limits.down, len(chunk))
                yield chunk

    async def _next(self, chunks: AsyncGenerator[bytes, None]) -> bytes | None:
        try:
            async with asyncio.timeout(self._throughput.longest) as limit:
                return await anext(chunks, None)
        except TimeoutError as error:
            if limit.expired():
                raise self._throughput.still() from error
            raise

    async def _sent(self, stream: AsyncIterator[bytes], limit: asyncio.Timeout) -> AsyncGenerator[bytes, None]:
        """`limit` ends the put when the driver does not come back for more; at the end it has timeouts of its own."""
        longest = self._throughput.longest
        async for chunk in stream:
            await self._paced(self._limits.up, len(chunk))
            given = time.monotonic()
            if longest is not None:
                limit.reschedule(asyncio.get_running_loop().time() + longest)
            yield chunk
            limit.reschedule(None)
            self._moved(len(chunk), given)

    async def _paced(self, pace: Pace | None, size: int) -> None:
        if pace is not None:
            begun = time.monotonic()
            await pace.passed(size)
            if self._pace_counts:
                self._moved(0, begun)

    def _moved(self, size: int, since: float) -> None:
        self._throughput.moved(size, time.monotonic() - since, self._limits.now)

    @asynccontextmanager
    async def _transfer(self) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            await self._slot(stack)
            self._throughput.began()
            self._limits.now += 1
            try:
                yield
            finally:
                self._limits.now -= 1

    async def _slot(self, stack: AsyncExitStack) -> None:
        if self._limits.slots is not None:
            await stack.enter_async_context(self._limits.slots)

    def at(self, moment: datetime) -> StorageDriver:
        return LimitedDriver(self._driver.at(moment), self._limits, self._throughput, pace_counts=self._pace_counts)
