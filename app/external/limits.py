"""What an import may take, over an archive and everything nested in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.archives.streams import StageClosed
from app.errors import ImportLimitExceeded
from app.sizes import human_size

_RATIO_FROM = 64 << 20
#: Bytes that a second of processor time must pass: bzip2, the slowest, has 15 MB on old machines.
_LEAST_RATE = 5 << 20
#: What a member counts for beside its content: its header, and its row in the index.
_MEMBER = 1 << 10
_STEP = 5.0
#: What a budget that begins has counted.
NOTHING = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """`bytes`: of all content when expanded, holes of sparse files included. `ratio`: expanded to compressed, once
    64 MiB have been read. `depth`: archives within archives. `seconds`: to read it all. `reserve`: bytes that stay
    free where it is staged. `cpu_seconds`: of processor time, beside a second for every 5 MiB and for every 5,000
    members that are read."""

    bytes: int = 1 << 40
    members: int = 20_000_000
    ratio: int = 400
    depth: int = 3
    seconds: float = 48 * 3600.0
    reserve: int = 0
    cpu_seconds: float = 120.0


class Budget:
    """Counts against the limits while one import reads; for one thread at a time. Raises ImportLimitExceeded, and
    StageClosed after `stop`, which any thread may call.

    `clock`: of the processor time that is counted. `counted`: what an earlier part of the same import has counted.
    `allowed` is told how many seconds of it are allowed, at first and whenever they have grown by five."""

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.process_time,
        counted: Sequence[int] = NOTHING,
        allowed: Callable[[float], None] | None = None,
    ) -> None:
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._clock = clock
        self._began: float | None = None
        self._allowed = allowed
        self._told = -_STEP
        self._content, self._members, self._read, self._expanded, self._passed = counted
        self._stopped = False
        self._tell()

    @property
    def counted(self) -> tuple[int, int, int, int, int]:
        return self._content, self._members, self._read, self._expanded, self._passed

    def stop(self) -> None:
        self._stopped = True

    def tick(self, passed: int = 0) -> None:
        """In every loop that foreign bytes drive; `passed`: so many bytes of the archive were read in this turn."""
        if self._stopped:
            raise StageClosed
        if passed:
            self._passed += passed
            self._tell()
        if self._began is None:  # in the thread that reads
            self._began = self._clock()
        if self._clock() - self._began > self._cpu:
            raise ImportLimitExceeded(
                f"The archive takes more than {self._cpu:.0f} seconds of processor time to read, which its size does "
                "not explain; raise LIBERU_IMPORTS__CPU_SECONDS if it is what it claims to be"
            )
        if time.monotonic() > self._deadline:
            raise ImportLimitExceeded(f"The archive could not be read within {self._limits.seconds:.0f} seconds")

    @property
    def _cpu(self) -> float:
        return self._limits.cpu_seconds + self._passed / _LEAST_RATE

    def _tell(self) -> None:
        if self._allowed is not None and self._cpu >= self._told + _STEP:
            self._told = self._cpu
            self._allowed(self._cpu)

    def member(self, size: int) -> None:
        """One more, of so many bytes when expanded; before any of them is read."""
        self._members += 1
        self._content += size
        if self._members > self._limits.members:
            raise ImportLimitExceeded(f"The archive holds more than {self._limits.members} members")
        if self._content > self._limits.bytes:
            raise ImportLimitExceeded(
                f"The archive holds more than {human_size(self._limits.bytes)}; raise "
                "LIBERU_IMPORTS__MAX_BYTES if it is what it claims to be"
            )
        self.tick(_MEMBER)

    def expanded(self, compressed: int, expanded: int) -> None:
        """So much more came out of a decompressor for so much put in."""
        self._read += compressed
        self._expanded += expanded
        if self._expanded > _RATIO_FROM and self._expanded > self._limits.ratio * max(self._read, 1):
            raise ImportLimitExceeded(
                f"The archive expands to more than {self._limits.ratio} times its size: it looks like a bomb"
            )
        if self._expanded > 2 * self._limits.bytes:
            raise ImportLimitExceeded(f"The archive expands to more than {human_size(2 * self._limits.bytes)}")
        self.tick(expanded)

    def nested(self, depth: int) -> None:
        if depth > self._limits.depth:
            raise ImportLimitExceeded(f"The archive holds archives nested more than {self._limits.depth} deep")
