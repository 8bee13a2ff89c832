"""A bounded number of pieces in flight: what an upload or a download keeps unconfirmed at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from app.storage.budget import Budget

T = TypeVar("T")


class Window:
    """Runs pieces at once while their sizes add up to at most `limit` bytes, and `budget` allows; one always runs.

    The first failure is raised by the next `add` or at the end of the block; an error cancels the pieces that still
    run, and waits for them.
    """

    def __init__(self, limit: int, budget: Budget) -> None:
        self._limit = limit
        self._budget = budget
        self._pending: dict[asyncio.Task[Any], int] = {}

    async def __aenter__(self) -> Window:
        return self

    async def add(self, piece: Coroutine[Any, Any, Any], size: int) -> None:
        """Start `piece`, when there is room for it."""
        try:
            while self._pending and sum(self._pending.values()) + size > self._limit:
                await self._some()
            await self._budget.take(size, at_once=all(task.done() for task in self._pending))
        except BaseException:
            piece.close()
            raise
        task = asyncio.create_task(piece)
        task.add_done_callback(lambda _: self._budget.give(size))
        self._pending[task] = size

    async def _some(self) -> None:
        done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._pending[task]
        errors = [task.exception() for task in done if not task.cancelled()]
        if error := next((error for error in errors if error is not None), None):
            raise error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while error is None and self._pending:
                await self._some()
        finally:
            await _ended(set(self._pending))


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def regrouped(stream: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """`stream` in pieces of exactly `size` bytes, the last one shorter."""
    parts: list[bytes] = []
    gathered = 0
    async for chunk in stream:
        view = memoryview(chunk)
        while gathered + len(view) >= size:
            cut = size - gathered
            yield b"".join([*parts, view[:cut]]) if parts or cut < len(chunk) else chunk
            view, parts, gathered = view[cut:], [], 0
        if view:
            parts.append(bytes(view))
            gathered += len(view)
    if parts:
        yield b"".join(parts)


async def in_order(
    read: Callable[[int, int], Awaitable[T]], start: int, end: int, piece: int, limit: int, budget: Budget
) -> AsyncGenerator[T, None]:
    """The bytes from `start` to `end`, with `limit` calls of `read(offset, length)` for `piece` bytes in flight, or
    as many as `budget` allows."""
    ahead: list[asyncio.Task[T]] = []

    async def one(offset: int) -> T:
        return await read(offset, min(piece, end - offset))

    offset = start
    try:
        while offset < end or ahead:
            while offset < end and len(ahead) < limit:
                await budget.take(piece, at_once=not ahead)
                ahead.append(asyncio.create_task(one(offset)))
                offset += piece
            result = await ahead[0]
            del ahead[0]
            budget.give(piece)
            yield result
    finally:
        await _ended(set(ahead))
        budget.give(piece * len(ahead))
