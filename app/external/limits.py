"""What an import may take, over an archive and everything nested in it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.archives.streams import StageClosed
from app.errors import ImportLimitExceeded
from app.sizes import human_size

_RATIO_FROM = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """`bytes`: of all content when expanded, holes of sparse files included. `ratio`: expanded to compressed, once
    64 MiB have been read. `depth`: archives within archives. `seconds`: to read it all. `reserve`: bytes that stay
    free where it is staged."""

    bytes: int = 1 << 40
    members: int = 20_000_000
    ratio: int = 400
    depth: int = 3
    seconds: float = 48 * 3600.0
    reserve: int = 0


class Budget:
    """Counts against the limits while one import reads; for one thread at a time. Raises ImportLimitExceeded, and
    StageClosed after `stop`, which any thread may call."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._content = self._members = self._read = self._expanded = 0
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def member(self, size: int) -> None:
        """One more, of so many bytes when expanded; before any of them is read."""
        if self._stopped:
            raise StageClosed
        self._members += 1
        self._content += size
        if self._members > self._limits.members:
            raise ImportLimitExceeded(f"The archive holds more than {self._limits.members} members")
        if self._content > self._limits.bytes:
            raise ImportLimitExceeded(
                f"The archive holds more than {human_size(self._limits.bytes)}; raise "
                "LIBERU_IMPORTS__MAX_BYTES if it is what it claims to be"
            )

    def expanded(self, compressed: int, expanded: int) -> None:
        """So much more came out of a decompressor for so much put in."""
        if self._stopped:
            raise StageClosed
        self._read += compressed
        self._expanded += expanded
        if self._expanded > _RATIO_FROM and self._expanded > self._limits.ratio * max(self._read, 1):
            raise ImportLimitExceeded(
                f"The archive expands to more than {self._limits.ratio} times its size: it looks like a bomb"
            )
        if self._expanded > 2 * self._limits.bytes:
            raise ImportLimitExceeded(f"The archive expands to more than {human_size(2 * self._limits.bytes)}")
        if time.monotonic() > self._deadline:
            raise ImportLimitExceeded(f"The archive could not be read within {self._limits.seconds:.0f} seconds")

    def nested(self, depth: int) -> None:
        if depth > self._limits.depth:
            raise ImportLimitExceeded(f"The archive holds archives nested more than {self._limits.depth} deep")
