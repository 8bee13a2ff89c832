"""How many requests are under way at one S3 store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """At most `most` at once; half as many each time the store says that it is too many, then slowly more again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = float(most)
        self._under_way = 0
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[float, None]:
        """Wait for a turn; yields the limit it was given under."""
        while self._under_way >= int(self.limit):
            self._freed.clear()
            await self._freed.wait()
        self._under_way += 1
        try:
            yield self.limit
        finally:
            self._under_way -= 1
            self._freed.set()

    def too_many(self, limit: float) -> None:
        """A request that began under `limit` was turned away. Those that began together count once."""
        if limit <= self.limit:
            self.limit = max(1.0, limit / 2)

    def went_well(self) -> None:
        self.limit = min(float(self._most), self.limit + 1 / self.limit)
