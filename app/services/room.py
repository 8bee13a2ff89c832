"""Whether the data folder has room for the databases that are files in it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

log = logging.getLogger(__name__)
#: What stores more, here or elsewhere; all else may go on: a clean-up or a sweep may even make room.
STORING = frozenset({"backup", "import"})


class Room:
    """`folder` None: the databases are elsewhere. `reserve`: bytes that must be free before anything is begun that
    stores more."""

    def __init__(self, folder: Path | None, reserve: int) -> None:
        self._folder = folder
        self._reserve = reserve
        self._low = False

    async def free(self) -> int | None:
        """Bytes; None where that is not looked at, or cannot be seen."""
        if self._folder is None:
            return None
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self._folder)).free
        except OSError as error:
            log.warning("How much room the data folder has cannot be seen: %s", error)
            return None

    async def low(self) -> bool:
        free = await self.free()
        return free is not None and free < self._reserve

    async def waiting(self) -> frozenset[str]:
        """The types of operations that wait until there is room again."""
        low = await self.low()
        if low != self._low:
            self._low = low
            if low:
                log.error(
                    "The data folder %s has less than %d bytes left: backups and imports wait until there is more",
                    self._folder,
                    self._reserve,
                )
            else:
                log.warning("The data folder %s has room again", self._folder)
        return STORING if low else frozenset()
