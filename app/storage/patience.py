"""How long a broken line is tried again, and how often."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from app.errors import DestinationUnreachable

log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 8.0


class Patience:
    """Of one operation: `seconds` from the first failure on; what gets through starts the time anew."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.progressed()

    def progressed(self) -> None:
        self._give_up: float | None = None
        self._pause = _FIRST_PAUSE

    async def again(self, error: DestinationUnreachable) -> None:
        """Wait before the next try, longer each time, never quite the same; raise `error` when the time is over."""
        now = time.monotonic()
        self._give_up = self._give_up or now + self._seconds
        if now + self._pause > self._give_up:
            raise error
        log.warning("%s; trying again", error.message)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311  jitter
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
