"""What a destination may be asked for: bytes per second, and transfers at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import datetime

from app.storage.base import ObjectInfo, OldVersions, Remains, StorageDriver

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
    """Of one destination, over all its drivers."""

    def __init__(self, bandwidth: int | None = None, transfers: int | None = None) -> None:
        self.wanted = (bandwidth, transfers)
        self.up = Pace(bandwidth) if bandwidth else None
        self.down = Pace(bandwidth) if bandwidth else None
        self.slots = asyncio.Semaphore(transfers) if transfers else None


class LimitedDriver(StorageDriver):
    """A driver whose puts and gets keep to a destination's limits; what it promises is the driver's own."""

    def __init__(self, driver: StorageDriver, limits: Limits) -> None:
        self._driver = driver
        self._limits = limits
        self.verification = driver.verification

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        async with AsyncExitStack() as stack:
            await self._slot(stack)
            return await self._driver.put(key, _paced(stream, self._limits.up), size)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        async with AsyncExitStack() as stack:
            await self._slot(stack)
            chunks = await stack.enter_async_context(aclosing(self._driver.get(key, offset)))
            async for chunk in _paced(chunks, self._limits.down):
                yield chunk

    async def _slot(self, stack: AsyncExitStack) -> None:
        if self._limits.slots is not None:
            await stack.enter_async_context(self._limits.slots)

    async def stat(self, key: str) -> ObjectInfo:
        return await self._driver.stat(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async with aclosing(self._driver.list(prefix)) as found:
            async for info in found:
                yield info

    async def delete(self, key: str) -> Remains | None:
        return await self._driver.delete(key)

    def at(self, moment: datetime) -> StorageDriver:
        return LimitedDriver(self._driver.at(moment), self._limits)

    async def history(self, prefix: str = "") -> AsyncGenerator[OldVersions, None]:
        async with aclosing(self._driver.history(prefix)) as found:
            async for old in found:
                yield old

    async def keeps_history(self) -> bool | None:
        return await self._driver.keeps_history()

    async def locked_until(self, key: str) -> datetime | None:
        return await self._driver.locked_until(key)

    async def lock(self, key: str, until: datetime) -> None:
        await self._driver.lock(key, until)

    async def connections(self) -> tuple[int, int] | None:
        return await self._driver.connections()

    async def confirm(self) -> None:
        await self._driver.confirm()

    async def make_place(self) -> None:
        await self._driver.make_place()

    async def free_bytes(self) -> int | None:
        return await self._driver.free_bytes()

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        return await self._driver.remove_leftovers(prefix, older_than)

    async def close(self) -> None:
        await self._driver.close()


async def _paced(stream: AsyncIterator[bytes], pace: Pace | None) -> AsyncGenerator[bytes, None]:
    async for chunk in stream:
        if pace is not None:
            await pace.passed(len(chunk))
        yield chunk
