"""Byte streams between the event loop and worker threads.

A stream is an async generator of `bytes`, in chunks of about 1 MiB. Blocking work (a pipe's read, zstd, age,
hashing) runs in a thread of its own, joined to the event loop by bounded queues: a slow consumer holds the
producer back, and closing the generator ends the thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import TypeVar

CHUNK = 1 << 20
QUEUE_DEPTH = 2

ByteStream = AsyncGenerator[bytes, None]
T = TypeVar("T")


class StageClosed(Exception):
    """Raised in a stage's thread when its consumer has gone."""


class Digest:
    """Count and SHA-256 of the bytes that passed; `sha256` is empty when they are only counted."""

    def __init__(self, *, hashing: bool = True) -> None:
        self._hash = hashlib.sha256() if hashing else None
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        if self._hash is not None:
            self._hash.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return "" if self._hash is None else self._hash.hexdigest()


class _Queue:
    """A bounded queue with a side for the event loop and a side for one thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[bytes | BaseException | None] = deque()
        self._condition = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    # Thread's side: block on the condition.
    def put(self, item: bytes | BaseException | None) -> None:
        with self._condition:
            while len(self._items) >= QUEUE_DEPTH and not self._closed:
                self._condition.wait()
            if self._closed:
                raise StageClosed
            self._items.append(item)
        self._wake_loop()

    def get(self) -> bytes | None:
        with self._condition:
            while not self._items and not self._closed:
                self._condition.wait()
            if not self._items:
                raise StageClosed
            item = self._items.popleft()
        self._wake_loop()
        if isinstance(item, BaseException):
            raise item
        return item

    def _wake_loop(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._notify)

    # Event loop's side: wait on a future.
    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, ready: Callable[[], bool]) -> None:
        while True:
            self._waiter = self._loop.create_future()
            with self._condition:
                if ready() or self._closed:
                    return
            await self._waiter

    async def aput(self, item: bytes | BaseException | None) -> None:
        await self._wait(lambda: len(self._items) < QUEUE_DEPTH)
        with self._condition:
            if self._closed:
                raise StageClosed
            self._items.append(item)
            self._condition.notify_all()

    async def aget(self) -> bytes | None:
        await self._wait(lambda: bool(self._items))
        with self._condition:
            if not self._items:
                raise StageClosed
            item = self._items.popleft()
            self._condition.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._notify()


class SourceReader(io.RawIOBase):
    """A stage's input inside its thread: a file-like object that may return less than it was asked for."""

    def __init__(self, queue: _Queue) -> None:
        super().__init__()
        self._queue = queue
        self._rest = memoryview(b"")
        self._ended = False
        self.digest: Digest | None = None

    def readable(self) -> bool:
        return True

    def _next(self) -> bytes | None:
        if self._ended:
            return None
        chunk = self._queue.get()
        if chunk is None:
            self._ended = True
        elif self.digest is not None:
            self.digest.update(chunk)
        return chunk

    def read(self, size: int = -1, /) -> bytes:
        if size is None or size < 0:
            return b"".join(self.chunks())
        while not self._rest:
            chunk = self._next()
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        piece = bytes(self._rest[:size])
        self._rest = self._rest[len(piece) :]
        return piece

    def chunks(self) -> Iterator[bytes]:
        """The rest, in the chunks it arrived in."""
        if self._rest:
            piece, self._rest = bytes(self._rest), memoryview(b"")
            yield piece
        while (chunk := self._next()) is not None:
            yield chunk


class Sink(io.RawIOBase):
    """A stage's output inside its thread: gathers small writes into chunks of about 1 MiB."""

    def __init__(self, queue: _Queue) -> None:
        super().__init__()
        self._queue = queue
        self._parts: list[bytes] = []
        self._gathered = 0
        self.digest: Digest | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        self._gathered += len(data)
        if self._gathered >= CHUNK:
            self.send()
        return len(data)

    def send(self) -> None:
        if self._parts:
            chunk = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts, self._gathered = [], 0
            if self.digest is not None:
                self.digest.update(chunk)
            self._queue.put(chunk)


async def _feed(source: ByteStream, queue: _Queue) -> None:
    try:
        async with aclosing(source):
            async for chunk in source:
                if chunk:
                    await queue.aput(chunk)
    except StageClosed:
        return
    except Exception as error:  # noqa: BLE001,RUF100  handed to the thread, which raises it in its place
        end: BaseException | None = error
    else:
        end = None
    with suppress(StageClosed):
        await queue.aput(end)


def _start(work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` in a thread of its own: stages live long, a shared pool would run out of threads."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001,RUF100  re-raised where the future is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


async def produce(
    work: Callable[[Sink], None], name: str = "stage", interrupt: Callable[[], None] | None = None
) -> ByteStream:
    """Yield what `work` writes in its thread; its error is raised after the last chunk.

    `interrupt` is called when the stream is left early: it must end what `work` may be blocked in.
    """
    outbox = _Queue(asyncio.get_running_loop())
    sink = Sink(outbox)

    def run() -> None:
        try:
            work(sink)
            sink.send()
            outbox.put(None)
        except StageClosed:
            pass
        except BaseException as error:  # noqa: BLE001,RUF100
            with suppress(StageClosed):
                outbox.put(error)

    thread = _start(run, name)
    ended = False
    try:
        while (chunk := await outbox.aget()) is not None:
            yield chunk
        ended = True
    finally:
        outbox.close()
        if interrupt is not None and not ended:
            interrupt()
        await _ended(thread)


async def transform(
    source: ByteStream, work: Callable[[SourceReader, Sink], None], name: str = "stage"
) -> ByteStream:
    """Yield what `work` makes of `source` in its thread. Closes `source`."""
    inbox = _Queue(asyncio.get_running_loop())
    feeder = asyncio.create_task(_feed(source, inbox))
    output = produce(lambda sink: work(SourceReader(inbox), sink), name, inbox.close)
    try:
        async for chunk in output:
            yield chunk
    finally:
        inbox.close()
        await output.aclose()
        await _stopped(feeder)


async def consume(
    source: ByteStream,
    work: Callable[[SourceReader], T],
    name: str = "stage",
    interrupt: Callable[[], None] | None = None,
) -> T:
    """Run `work` over `source` in a thread and return its result. Closes `source`. `interrupt`: as for `produce`."""
    inbox = _Queue(asyncio.get_running_loop())
    feeder = asyncio.create_task(_feed(source, inbox))

    def end() -> None:
        inbox.close()
        if interrupt is not None:
            interrupt()

    try:
        return await in_thread(lambda: work(SourceReader(inbox)), name, end)
    finally:
        inbox.close()
        await _stopped(feeder)


async def in_thread(work: Callable[[], T], name: str, interrupt: Callable[[], None]) -> T:
    """Run `work` in a thread of its own, which has ended when this returns; `interrupt` must end it early."""
    thread = _start(work, name)
    try:
        return await asyncio.shield(_future(thread))
    finally:
        if not thread.done():
            interrupt()
        await _ended(thread)


async def _ended(thread: Future[T]) -> None:
    """Wait for a stage's thread; its error has been raised elsewhere or nobody wants it any more."""
    await asyncio.wait({_future(thread)})


def _future(thread: Future[T]) -> asyncio.Future[T]:
    """For the event loop; its error counts as seen, also when whoever waits for it is cancelled."""
    future = asyncio.wrap_future(thread)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


async def from_bytes(data: bytes) -> ByteStream:
    """A short stream from memory."""
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]
