"""What every worker does besides running operations."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import Context

log = logging.getLogger(__name__)
_PAUSE = 1.0
#: A destination that hangs must not keep the process from ending.
_STOP_SECONDS = 5


async def kept(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run `work`, which does not end, and begin it anew when it does: nobody would miss it until it is needed. Only
    who cancels this task itself ends it."""
    task = asyncio.current_task()
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            if task is None or task.cancelling():
                raise
            log.critical("%s was cancelled by a part of it; it begins anew", name, exc_info=True)
        except Exception:  # whatever it is
            log.critical("%s has failed; it begins anew", name, exc_info=True)
        else:
            log.critical("%s has ended; it begins anew", name)
        await asyncio.sleep(_PAUSE)


class BackgroundTask(ABC):
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        # Outside of any context: within a workflow the engine would take what is queued for a step of that.
        self._task = asyncio.create_task(kept(self._run, type(self).__name__), context=Context())

    async def stop(self) -> None:
        """What it was at is taken up by the next start or by another process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_STOP_SECONDS)

    @abstractmethod
    async def _run(self) -> None:
        """For ever; whatever goes wrong should not end it."""
