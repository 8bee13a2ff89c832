"""All or nothing: parts wait for each other before the first of them changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from app.errors import ImportStopped


class Gate:
    """Opens when each of `numbers` has arrived; without any it is open from the start."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._missing = set(numbers)
        self._passed: set[int] = set()
        self._held = bool(self._missing)
        self._changed = asyncio.Event()
        self._failed = False

    def holds(self, number: int) -> bool:
        """Whether `number` has to wait: once, before its first change; putting it right later waits for nobody."""
        return self._held and number not in self._passed

    def arrive(self, number: int) -> None:
        self._missing.discard(number)
        if not self._missing:
            self._changed.set()

    def fail(self, number: int) -> None:
        """One cannot be done: nobody may pass any more who has not."""
        if number in self._missing:
            self._failed = True
            self._changed.set()

    async def wait(self, number: int) -> None:
        """Raises ImportStopped when one of the others has failed."""
        self._passed.add(number)
        self.arrive(number)
        await self._changed.wait()
        if self._failed:
            raise ImportStopped("Nothing was changed: another part could not be imported")
