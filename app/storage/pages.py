"""Listings that must come to an end: whoever lists is on the other side, and may be broken or hostile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.errors import DestinationInvalid, DestinationUnreachable

T = TypeVar("T")
#: Names in one folder: a hundred times what the largest installation has in any; and in one whole listing.
MAX_IN_FOLDER = 10_000_000
MAX_LISTED = 20_000_000
#: Of one listing, however many names there are.
MOST_SECONDS = 12 * 3600
_MOST_BYTES = 4 << 30
_SECONDS = 600
_NAMES_PER_SECOND = 50
_EMPTY_PAGES = 1000


class Progress:
    """Of one listing: `seconds` to begin with, then so many names a second on average, up to twelve hours. `most`:
    names in all."""

    def __init__(self, what: str, most: int | None = None, seconds: float = _SECONDS) -> None:
        self._what = what
        self._most = most
        self._seconds = seconds
        self._started = time.monotonic()
        self._count = 0
        self._bytes = 0
        self._empty = 0
        self._token: str | None = None
        self._pages = 0
        self._remember_at = 1

    def seen(self, names: int) -> None:
        """Raises DestinationInvalid beyond `most`, DestinationUnreachable when it is too slow."""
        self._count += names
        if self._most is not None and self._count > self._most:
            raise DestinationInvalid(f"{self._what}: there are more than {self._most} names")
        allowed = min(self._seconds + self._count / _NAMES_PER_SECOND, MOST_SECONDS)
        if time.monotonic() - self._started > allowed:
            raise DestinationUnreachable(f"{self._what}: the server lists too slowly, {self._count} names so far")

    def read(self, size: int) -> None:
        """So many bytes, whatever is in them. Raises as `seen`."""
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            raise DestinationInvalid(f"{self._what}: the destination's listing does not come to an end")
        self.seen(0)

    async def moving(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """The result of `work`, in which something is `seen` at least every so many seconds. Raises TimeoutError, and
        does not wait then for what `work` may still wait for: the connection is not to be used any more."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        before = -1
        try:
            while not task.done() and self._count > before:
                before = self._count
                await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                raise TimeoutError("the listing stands still")
            return task.result()
        finally:
            task.cancel()

    def page(self, names: int, token: str | None) -> None:
        """One page, with what asks for the next one. Raises DestinationInvalid when pages come again, or hold
        nothing for a thousand times."""
        self.seen(names)
        self._empty = 0 if names else self._empty + 1
        if not token or token == self._token or self._empty > _EMPTY_PAGES:
            raise DestinationInvalid(f"{self._what}: the pages of the destination's listing do not come to an end")
        self._pages += 1
        if self._pages == self._remember_at:  # Brent's way to find a cycle, with one token in memory
            self._token, self._remember_at = token, 2 * self._remember_at
