"""One stream for several consumers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

from app.archives.streams import QUEUE_DEPTH, ByteStream

K = TypeVar("K")
T = TypeVar("T")
_Item = bytes | BaseException | None


async def tee(
    source: ByteStream, consumers: Mapping[K, Callable[[ByteStream], Awaitable[T]]]
) -> dict[K, T | Exception]:
    """Give every consumer the bytes of `source`, which is read once; return each one's result or error.

    The slowest sets the pace, and each is at most a few chunks behind. One that fails is left out from there on, the
    others go on; when none is left, reading ends. An error of `source` reaches all of them and is raised. Closes
    `source`.
    """
    queues: dict[K, asyncio.Queue[_Item]] = {key: asyncio.Queue(QUEUE_DEPTH) for key in consumers}
    tasks = {key: asyncio.create_task(_consume(consumer, queues[key])) for key, consumer in consumers.items()}

    async def give(item: _Item) -> None:
        for key, task in tasks.items():
            if not task.done():
                await _put(queues[key], item, task)

    try:
        async with aclosing(source):
            try:
                async for chunk in source:
                    await give(chunk)
                    if all(task.done() for task in tasks.values()):
                        break
            except Exception as error:
                await give(error)
                await asyncio.wait(tasks.values())
                raise
        await give(None)
        await asyncio.wait(tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        failed = {key: task.exception() for key, task in tasks.items() if not task.cancelled()}
    results: dict[K, T | Exception] = {}
    for key, task in tasks.items():
        failure = failed[key]
        if failure is not None and not isinstance(failure, Exception):
            raise failure
        results[key] = task.result() if failure is None else failure
    return results


async def _consume(consumer: Callable[[ByteStream], Awaitable[T]], queue: asyncio.Queue[_Item]) -> T:
    async with aclosing(_stream(queue)) as stream:
        return await consumer(stream)


async def _stream(queue: asyncio.Queue[_Item]) -> AsyncGenerator[bytes, None]:
    while (item := await queue.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


async def _put(queue: asyncio.Queue[_Item], item: _Item, consumer: asyncio.Task[T]) -> None:
    """Wait for room, or for the consumer's end."""
    if not queue.full():
        queue.put_nowait(item)
        return
    put = asyncio.create_task(queue.put(item))
    try:
        await asyncio.wait({put, consumer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        put.cancel()
        await asyncio.wait({put})
