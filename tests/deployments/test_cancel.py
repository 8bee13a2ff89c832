"""A command that hangs is killed when its job is cancelled: reading, writing, or doing neither."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from app.archives.streams import ByteStream, Sink, SourceReader, transform
from app.deployments.standalone import StandaloneDeployment


async def _endless() -> ByteStream:
    while True:
        yield bytes(1 << 20)


def _copy(reader: SourceReader, sink: Sink) -> None:
    for chunk in reader.chunks():
        sink.write(chunk)


async def _read_through_stages() -> None:
    output = StandaloneDeployment().stream(["sh", "-c", "echo one; exec sleep 1000"])
    async with aclosing(transform(transform(output, _copy), _copy)) as stages:
        async for _ in stages:
            pass


async def _run_silent() -> None:
    await StandaloneDeployment().run(["sleep", "1000"])


async def _run_with_input_it_never_reads() -> None:
    await StandaloneDeployment().run(["sleep", "1000"], input=_endless())


async def _stream_with_input_it_never_reads() -> None:
    async with aclosing(StandaloneDeployment().stream(["sleep", "1000"], input=_endless())) as output:
        async for _ in output:
            pass


@pytest.mark.parametrize(
    "work",
    [_read_through_stages, _run_silent, _run_with_input_it_never_reads, _stream_with_input_it_never_reads],
)
async def test_a_hanging_command_is_killed(work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work())
    await asyncio.wait({task}, timeout=0.5)
    assert not task.done()
    task.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait({task})
    assert task.cancelled()
