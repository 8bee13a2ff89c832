"""One source, several consumers: read once, everybody gets every byte, and none waits for a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from app.archives.streams import ByteStream
from app.archives.tee import tee

CHUNKS = [bytes([number]) * 100 for number in range(50)]


class Source:
    def __init__(self, error: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self._error = error

    async def stream(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in CHUNKS:
                self.given += 1
                yield chunk
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def everything(stream: ByteStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def slowly(stream: ByteStream) -> bytes:
    found = b""
    async for chunk in stream:
        await asyncio.sleep(0)
        found += chunk
    return found


async def gives_up(stream: ByteStream) -> bytes:
    await anext(stream)
    raise OSError("no more")


async def test_everybody_gets_every_byte_of_one_read() -> None:
    source = Source()
    found = await tee(source.stream(), {1: everything, 2: slowly, 3: gives_up})
    assert found[1] == found[2] == b"".join(CHUNKS)
    assert isinstance(found[3], OSError)
    assert (source.given, source.closed) == (len(CHUNKS), True)


async def test_reading_ends_when_nobody_is_left() -> None:
    source = Source()
    found = await tee(source.stream(), {1: gives_up, 2: gives_up})
    assert [type(result) for result in found.values()] == [OSError, OSError]
    assert source.given < len(CHUNKS)
    assert source.closed


async def test_an_error_of_the_source_reaches_all_and_is_raised() -> None:
    seen: list[str] = []

    async def notes(stream: ByteStream) -> None:
        try:
            await everything(stream)
        except ValueError as error:
            seen.append(str(error))
            raise

    with pytest.raises(ValueError, match="cut"):
        await tee(Source(ValueError("cut")).stream(), {1: notes, 2: notes})
    assert seen == ["cut", "cut"]


async def test_a_cancellation_ends_the_consumers() -> None:
    ended: list[int] = []
    stuck = asyncio.Event()

    async def waits(stream: ByteStream) -> None:
        try:
            await anext(stream)
            stuck.set()
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    source = Source()
    task = asyncio.create_task(tee(source.stream(), {1: waits, 2: everything}))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]
    assert source.closed
