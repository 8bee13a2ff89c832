"""Steps that a cancellation must not leave half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS = 60


async def settled(step: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]], seconds: float = _SECONDS) -> T:
    """The result of `step`. When its waiter is cancelled meanwhile, `step` goes on to its end, what it has done is
    undone, and only then is the cancellation raised: after `seconds` at the latest, for each of the two."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _ended(task, seconds)
        if task.done() and not task.cancelled() and task.exception() is None:
            await _ended(asyncio.ensure_future(undo(task.result())), seconds)
        raise


async def _ended(task: asyncio.Future[Any], seconds: float) -> None:
    """Wait for it, however often the waiter is cancelled; what does not end is left."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not task.done() and loop.time() < until:
        try:
            await asyncio.wait({task}, timeout=until - loop.time())
        except asyncio.CancelledError:
            continue
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()
