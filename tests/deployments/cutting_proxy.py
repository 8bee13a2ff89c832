"""A proxy that breaks a connection after so many bytes of what the server says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Line:
    """`limit`: bytes from the server after which a connection is cut; None: never. `passed`: the last one's."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.passed = 0
        self.most = 0


@asynccontextmanager
async def cutting_proxy(server: str, here: str) -> AsyncGenerator[Line, None]:
    """From `here` to `server`; each is a unix socket's path or a loopback port."""
    line = Line()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there_reader, there_writer = await _connect(server)
        up = asyncio.create_task(_pump(reader, there_writer, None))
        try:
            await _pump(there_reader, writer, line)
        except asyncio.CancelledError:  # asyncio's own callback does not expect it
            pass
        finally:
            up.cancel()
            await asyncio.wait({up})
            for side in (writer, there_writer):
                side.transport.abort()
            tasks.discard(task)

    if here.startswith("/"):
        listener = await asyncio.start_unix_server(serve, here)
    else:
        listener = await asyncio.start_server(serve, "127.0.0.1", int(here))
    try:
        yield line
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks))
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn
        await listener.wait_closed()


async def _connect(server: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.startswith("/"):
        return await asyncio.open_unix_connection(server)
    return await asyncio.open_connection("127.0.0.1", int(server))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line | None) -> None:
    passed = 0
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            if line is not None:
                if line.limit is not None:
                    data = data[: line.limit - passed]
                passed += len(data)
                line.passed, line.most = passed, max(line.most, passed)
            writer.write(data)
            await writer.drain()
            if line is not None and line.limit is not None and passed >= line.limit:
                return
        if writer.can_write_eof():
            writer.write_eof()
