"""Whether a destination moves data fast enough to be waited for: a pure count of bytes and of seconds."""

from __future__ import annotations

from app.errors import DestinationTooSlow
from app.sizes import human_size

#: Bytes that beginning an object counts as: small ones cost round trips, not bandwidth.
EACH_OBJECT = 512 << 10


class Throughput:
    """Over all transfers of one operation at one destination. `minimum`: bytes a second, over `seconds` that were
    spent waiting for it; whatever else takes time is not counted. `minimum` 0: as slow as it likes."""

    def __init__(self, minimum: int, seconds: float) -> None:
        self._minimum = minimum
        self._half = seconds / 2
        #: Drivers work with large pieces: so long, in seconds, there may be nothing to be seen; None: for ever.
        self.longest = 2 * seconds if minimum else None
        self._bytes = self._waited = 0.0
        self._before: tuple[float, float] | None = None

    def began(self) -> None:
        """An object."""
        self._bytes += EACH_OBJECT

    def still(self) -> DestinationTooSlow:
        """What is wrong when `longest` is over."""
        return DestinationTooSlow(
            f"The destination moved nothing that could be seen within {self.longest or 0:.0f} seconds: what is "
            "slower keeps others waiting"
        )

    def moved(self, size: int, waited: float, sharing: int = 1) -> None:
        """`size` bytes after `waited` seconds, while so many transfers shared the destination: each is to have its
        part of the minimum. Raises DestinationTooSlow."""
        self._bytes += size * sharing
        self._waited += waited
        if self._waited < self._half:
            return
        if self._before is not None:
            seconds = self._before[1] + self._waited
            rate = (self._before[0] + self._bytes) / seconds
            if rate < self._minimum:
                raise DestinationTooSlow(
                    f"The destination moved {human_size(int(rate))} a second over {seconds:.0f} seconds, and "
                    f"{human_size(self._minimum)} are wanted: what is slower keeps others waiting. Give it a faster "
                    "line or a higher `bandwidth`, or have LIBERU_STORAGE__SLOW_BYTES_PER_SECOND lowered"
                )
        self._before = self._bytes, self._waited
        self._bytes = self._waited = 0.0
