"""The bytes that all transfers of this process keep in memory at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """Handed out in the order in which it was asked for."""

    def __init__(self, limit: int = 192 << 20) -> None:
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int, *, at_once: bool) -> None:
        """Wait until `size` bytes are free. `at_once`: take them beyond the limit, so that a transfer that holds
        nothing yet can always move on."""
        if at_once or (not self._waiting and size <= self._free):
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            else:
                self._waiting.remove((size, turn))
                self._serve()
            raise

    def give(self, size: int) -> None:
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)
