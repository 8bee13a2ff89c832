"""Stages: bytes, errors and endings pass from thread to thread, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import pytest

from app.archives.streams import CHUNK, ByteStream, Sink, SourceReader, consume, produce, told, transform, watched


def _copy(reader: SourceReader, sink: Sink) -> None:
    for chunk in reader.chunks():
        sink.write(chunk)


def _count(reader: SourceReader) -> int:
    return sum(len(chunk) for chunk in reader.chunks())


def _write(chunks: int) -> ByteStream:
    def work(sink: Sink) -> None:
        for _ in range(chunks):
            sink.write(bytes(CHUNK))

    return produce(work, "made")


def stages() -> list[str]:
    """Threads that go on. One whose work has ended may take a moment to be gone."""
    found = [thread for thread in threading.enumerate() if thread.name in ("made", "one", "two", "end")]
    for thread in found:
        thread.join(5)
    return [thread.name for thread in found if thread.is_alive()]


async def test_chunks_pass_from_thread_to_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    woken: list[object] = []
    wake = loop.call_soon_threadsafe

    def counted(*args: Any, **options: Any) -> Any:
        woken.append(args)
        return wake(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    chain = transform(transform(_write(100), _copy, "one"), _copy, "two")
    assert await consume(chain, _count, "end") == 100 * CHUNK
    assert len(woken) < 20  # of the loop: when threads end, not for each chunk
    assert stages() == []


@pytest.mark.parametrize("where", ["made", "watched", "its end", "fed", "consumed"])
async def test_an_error_anywhere_ends_the_chain(where: str) -> None:
    def fails(*_: object) -> None:
        raise ValueError(where)

    async def fed() -> ByteStream:
        yield bytes(CHUNK)
        raise ValueError(where)

    def made(sink: Sink) -> None:
        sink.write(bytes(5 * CHUNK))
        fails()

    source = fed() if where == "fed" else produce(made, "made") if where == "made" else _write(50)
    chain = transform(transform(source, _copy, "one"), _copy, "two")
    if where == "watched":
        chain = watched(chain, fails)
    if where == "its end":
        chain = watched(chain, lambda chunk: None, fails)
    with pytest.raises(ValueError, match=where):
        await consume(chain, fails if where == "consumed" else _count, "end")
    assert stages() == []


async def test_leaving_early_ends_every_thread() -> None:
    interrupted: list[int] = []
    released = threading.Event()

    def interrupt() -> None:
        interrupted.append(1)
        released.set()

    def hang(sink: Sink) -> None:
        released.wait()

    source = produce(hang, "made", interrupt)
    task = asyncio.create_task(consume(transform(source, _copy, "one"), _count, "end"))
    await asyncio.wait({task}, timeout=0.2)
    task.cancel()
    await asyncio.wait({task})
    assert interrupted == [1]
    assert stages() == []

    async with aclosing(transform(_write(1000), _copy, "one")) as stream:
        async for _ in stream:
            break
    assert stages() == []


async def test_a_stage_that_never_began_closes_its_source() -> None:
    closed = []

    async def source() -> ByteStream:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(1)

    begun = source()
    await anext(begun)
    await transform(transform(begun, _copy), _copy).aclose()
    assert closed == [1]


async def test_watching_sees_all_and_passes_all_on() -> None:
    async def source() -> ByteStream:
        yield b"one"
        yield b"two"

    seen: list[bytes] = []
    threads: set[str] = set()
    ended: list[int] = []

    def see(chunk: bytes) -> None:
        seen.append(chunk)
        threads.add(threading.current_thread().name)

    stream = watched(watched(source(), see, name="one"), see, lambda: ended.append(1))
    assert b"".join([chunk async for chunk in stream]) == b"onetwo"
    assert b"".join(seen) in (b"onetwoonetwo", b"oneonetwotwo")
    assert (threads, ended) == ({"one"}, [1])


@pytest.mark.parametrize("staged", [True, False])
async def test_what_a_stream_fails_with_is_told_before_its_reader_knows_it(*, staged: bool) -> None:
    async def source() -> ByteStream:
        yield b"one"
        raise ValueError("torn")

    heard: list[BaseException] = []
    stream = told(transform(source(), _copy) if staged else source(), heard.append)
    with pytest.raises(ValueError, match="torn") as caught:
        async for _ in watched(stream, lambda chunk: None):
            pass
    assert heard == [caught.value]


@pytest.mark.parametrize("at_end", [True, False])
async def test_what_a_watcher_refuses_is_no_failure_of_the_stream(*, at_end: bool) -> None:
    async def source() -> ByteStream:
        yield b"one"

    def refuse(*_: object) -> None:
        raise ValueError("unwanted")

    heard: list[BaseException] = []
    stream = told(transform(source(), _copy), heard.append)
    stream = watched(stream, lambda chunk: None, refuse) if at_end else watched(stream, refuse)
    with pytest.raises(ValueError, match="unwanted"):
        async for _ in stream:
            pass
    assert heard == []
