"""What every worker does besides running operations."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextvars import Context


class BackgroundTask(ABC):
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        # Outside of any context: within a workflow the engine would take what is queued for a step of that.
        self._task = asyncio.create_task(self._run(), context=Context())

    async def stop(self) -> None:
        """What it was at is taken up by the next start or by another process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    @abstractmethod
    async def _run(self) -> None:
        """For ever; whatever goes wrong must not end it."""
