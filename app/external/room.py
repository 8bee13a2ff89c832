"""Space that is left to others: what imports write lies where this service keeps its own state."""

from __future__ import annotations

import os
from pathlib import Path

from app.errors import NoSpace
from app.sizes import human_size

_EVERY = 64 << 20


class Room:
    """Asks the file system once in 64 MiB. `reserve`: bytes that stay free; 0: nothing is asked."""

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder = folder
        self._reserve = reserve
        self._left = 0

    def need(self, size: int) -> None:
        """Before so many bytes are written. Raises NoSpace."""
        self._left -= size
        if self._reserve == 0 or self._left >= 0:
            return
        self._left = _EVERY
        found = os.statvfs(self._folder)
        if found.f_bavail * found.f_frsize < self._reserve + max(size, _EVERY):
            raise NoSpace(
                f"{self._folder} has {human_size(found.f_bavail * found.f_frsize)} free, and "
                f"{human_size(self._reserve + max(size, _EVERY))} are needed with the reserve of "
                f"{human_size(self._reserve)}: an archive is kept there with its whole content while it is imported. "
                "Free some, or move the data folder"
            )
