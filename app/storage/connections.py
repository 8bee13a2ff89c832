"""How many connections a server allows: learnt from one that it refuses, kept by all drivers of a destination."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from app.errors import DestinationBusy

T = TypeVar("T")
#: Seconds. What was learnt may have been somebody else's doing, and is tried again.
_REMEMBERED = 300
#: A server that hangs up may have had another reason, and one that has just been left takes a moment to notice.
_TRIES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: For one of our own to be free: as long as a large upload may take.
_OWN_SECONDS = 6 * 3600
#: Then a download that nobody reads from gives its connection up, and later an upload that waits for its source: what
#: they wait for may be waiting for us. Both go on where they were.
_PATIENT, _VERY_PATIENT = 2.0, 10.0


class Connections:
    """Of one destination, over all its drivers; of one event loop.

    `idle`, `reading` and `starved`: open connections that can be given up, and what closes them at once.
    """

    def __init__(self) -> None:
        self._most = 0
        self._learnt = 0.0
        self._open: set[object] = set()
        self._changes: set[asyncio.Future[None]] = set()
        self.idle: dict[object, Callable[[], None]] = {}
        self.reading: dict[object, Callable[[], None]] = {}
        self.starved: dict[object, Callable[[], None]] = {}

    @property
    def limit(self) -> int | None:
        """How many the server allows; None while that is not known."""
        return self._most if self._most and time.monotonic() - self._learnt < _REMEMBERED else None

    async def open(
        self, make: Callable[[], Awaitable[T]], seconds: float, reuse: Callable[[], T | None] = lambda: None
    ) -> T:
        """What `make` gives once the server takes it, or what `reuse` has by then.

        Waits for another of ours to be closed where the server allows no more; `seconds`: how long a server is asked
        again that refuses the first one. Raises DestinationBusy, and what `make` raises.
        """
        give_up, pause, tries = time.monotonic() + seconds, _FIRST_PAUSE, 0
        while True:
            if tries % _TRIES == 0 and (found := await self._room(reuse)) is not None:
                return found
            tries += 1
            try:
                return await self.try_to_open(make)
            except DestinationBusy:
                if not self._open and time.monotonic() + pause > give_up:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def try_to_open(self, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives, without waiting. Raises DestinationBusy: then it is known how many are allowed."""
        coming = object()
        self._open.add(coming)
        try:
            made = await make()
        except DestinationBusy:
            self.closed(coming)
            self._most, self._learnt = max(1, len(self._open)), time.monotonic()
            raise
        except BaseException:
            self.closed(coming)
            raise
        self._open.add(made)
        self._open.discard(coming)
        return made

    def closed(self, connection: object) -> None:
        """One that was opened is no more. Idempotent."""
        for those in (self.idle, self.reading, self.starved):
            those.pop(connection, None)
        self._open.discard(connection)
        self._changed()

    def set_aside(self, connection: object, close: Callable[[], None]) -> None:
        self.idle[connection] = close
        self._changed()

    def _changed(self) -> None:
        for change in self._changes:
            if not change.done():
                change.set_result(None)

    async def _change(self, seconds: float) -> bool:
        """Wait for one to be closed or put aside, for so long."""
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changes.add(change)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await change
            return change.done() and not change.cancelled()
        finally:
            self._changes.discard(change)

    async def _room(self, reuse: Callable[[], T | None]) -> T | None:
        """Wait until one more may be opened, or what `reuse` has instead."""
        begun = since = time.monotonic()
        while self.limit is not None and len(self._open) >= self.limit:
            if (found := reuse()) is not None:
                return found
            now = time.monotonic()
            if now - begun > _OWN_SECONDS:
                raise DestinationBusy(
                    f"All {self.limit} connections that the server allows have been in use for hours; try later"
                )
            if self.idle:
                self._take(self.idle)
            elif self.reading and now - since >= _PATIENT:
                self._take(self.reading)
            elif self.starved and now - since >= _VERY_PATIENT:
                self._take(self.starved)
            elif await self._change(_PATIENT):
                since = time.monotonic()
        return None

    def _take(self, those: dict[object, Callable[[], None]]) -> None:
        connection, close = next(iter(those.items()))
        close()
        self.closed(connection)
