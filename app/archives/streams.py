"""Byte streams between the event loop and worker threads.

A stream is an async generator of `bytes`, in chunks of about 1 MiB. Blocking work (a pipe's read, zstd, age,
hashing) runs in a stage: a thread of its own behind a bounded queue. A slow consumer holds the producer back, and
closing the stream ends the thread.

Stages that follow each other hand chunks from thread to thread; the event loop begins the chain and ends it, and is
woken only at its ends, by what it feeds or reads itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Any, TypeVar

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
    """A bounded queue, each of whose ends is used by one thread or by the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[bytes | BaseException | None] = deque()
        self._condition = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    # A thread's side: block on the condition.
    def put(self, item: bytes | BaseException | None) -> None:
        with self._condition:
            while len(self._items) >= QUEUE_DEPTH and not self._closed:
                self._condition.wait()
            if self._closed:
                raise StageClosed
            self._items.append(item)
            self._changed()

    def get(self) -> bytes | None:
        with self._condition:
            while not self._items and not self._closed:
                self._condition.wait()
            if not self._items:
                raise StageClosed
            item = self._items.popleft()
            self._changed()
        if isinstance(item, BaseException):
            raise item
        return item

    def _changed(self) -> None:
        """Wake whoever waits at the other end. With the condition held."""
        self._condition.notify_all()
        if self._waiter is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._notify)

    # The event loop's side: wait on a future.
    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, ready: Callable[[], bool]) -> None:
        while True:
            with self._condition:
                if ready() or self._closed:
                    self._waiter = None
                    return
                self._waiter = waiter = self._loop.create_future()
            await waiter

    async def aput(self, item: bytes | BaseException | None) -> None:
        await self._wait(lambda: len(self._items) < QUEUE_DEPTH)
        with self._condition:
            if self._closed:
                raise StageClosed
            self._items.append(item)
            self._changed()

    async def aget(self) -> bytes | None:
        await self._wait(lambda: bool(self._items))
        with self._condition:
            if not self._items:
                raise StageClosed
            item = self._items.popleft()
            self._changed()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._changed()


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
        self.watchers: list[Callable[[bytes], None]] = []
        self.refused = False  # by a watcher

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if not data:
            return 0
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
            self.refused = True
            for see in self.watchers:
                see(chunk)
            self.refused = False
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


class Stage(AsyncGenerator[bytes, None]):
    """What `work` writes in its thread, of what it reads of `source` there; see produce and transform."""

    def __init__(
        self,
        work: Callable[[Callable[[], SourceReader], Sink], None],
        name: str,
        source: ByteStream | None,
        interrupt: Callable[[], None] | None,
    ) -> None:
        self._work = work
        self._name = name
        self._source = source
        self._interrupt = interrupt
        self._watchers: list[Callable[[bytes], None]] = []
        self._last_words: list[Callable[[], None]] = []
        self._told: list[Callable[[BaseException], None]] = []
        self._input: _Input | None = None
        self._output: _Queue | None = None
        self._thread: Future[None] | None = None
        self._whole = False
        self._iterator: AsyncGenerator[bytes, None] | None = None

    @property
    def begun(self) -> bool:
        return self._output is not None or self._iterator is not None

    def watch(self, see: Callable[[bytes], None], end: Callable[[], None] | None = None) -> None:
        """See `watched`; before it has begun."""
        self._watchers.append(see)
        if end is not None:
            self._last_words.append(end)

    def tell(self, failed: Callable[[BaseException], None]) -> None:
        """See `told`; before it has begun."""
        self._told.append(failed)

    def begin(self) -> _Queue:
        """Start the thread, and those of the stages before it; its output is whoever's calls this."""
        self._output = output = _Queue(asyncio.get_running_loop())
        self._input = None if self._source is None else _Input(self._source)
        self._thread = _start(lambda: self._run(output), self._name)
        return output

    def _run(self, output: _Queue) -> None:
        sink = Sink(output)
        sink.watchers = self._watchers
        try:
            try:
                self._work(self._reader, sink)
                sink.send()
            except Exception as error:
                if not sink.refused and not isinstance(error, StageClosed):
                    for failed in self._told:
                        failed(error)
                raise
            for end in self._last_words:
                end()
            self._whole = True
            output.put(None)
        except StageClosed:
            pass
        except BaseException as error:  # noqa: BLE001,RUF100
            with suppress(StageClosed):
                output.put(error)

    def _reader(self) -> SourceReader:
        assert self._input is not None
        return SourceReader(self._input.queue)

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        output = self.begin()
        try:
            while (chunk := await output.aget()) is not None:
                yield chunk
        finally:
            await self.end()

    async def end(self) -> None:
        """End the thread, then those before it, and close the source. Idempotent."""
        if self._output is None or self._thread is None:
            if self._source is not None:
                await self._source.aclose()
            return
        self._output.close()
        if self._input is not None:
            self._input.queue.close()
        if self._interrupt is not None and not self._whole:
            self._interrupt()
        await _ended(self._thread)
        if self._input is not None:
            await self._input.end()

    # The event loop reads it by way of a generator of its own, which the loop closes when everybody has forgotten it.
    def __aiter__(self) -> Stage:
        return self

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        return self.asend(None)

    def asend(self, value: None, /) -> Coroutine[Any, Any, bytes]:
        return self._reading().asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, bytes]:
        return self._reading().athrow(*error)

    def _reading(self) -> AsyncGenerator[bytes, None]:
        if self._iterator is None:
            if self._output is not None:
                raise RuntimeError(f"The stage {self._name!r} is read by another one")
            self._iterator = self._iterate()
        return self._iterator

    async def aclose(self) -> None:
        if self._iterator is not None:
            await self._iterator.aclose()
        else:
            await self.end()


class _Input:
    """Where a thread's input comes from: another stage's thread, or a stream that the event loop feeds."""

    def __init__(self, source: ByteStream) -> None:
        self._stage: Stage | None = None
        self._feeder: asyncio.Task[None] | None = None
        if isinstance(source, Stage) and not source.begun:
            self._stage = source
            self.queue = source.begin()
        else:
            self.queue = _Queue(asyncio.get_running_loop())
            self._feeder = asyncio.create_task(_feed(source, self.queue))

    async def end(self) -> None:
        """End what comes before, and close it. Idempotent."""
        self.queue.close()
        if self._stage is not None:
            await self._stage.end()
        if self._feeder is not None:
            await _stopped(self._feeder)


def produce(
    work: Callable[[Sink], None], name: str = "stage", interrupt: Callable[[], None] | None = None
) -> ByteStream:
    """Yield what `work` writes in its thread; its error is raised after the last chunk.

    `interrupt` is called when the stream is left early: it must end what `work` may be blocked in.
    """
    return Stage(lambda _, sink: work(sink), name, None, interrupt)


def transform(source: ByteStream, work: Callable[[SourceReader, Sink], None], name: str = "stage") -> ByteStream:
    """Yield what `work` makes of `source` in its thread. Closes `source`."""
    return Stage(lambda reader, sink: work(reader(), sink), name, source, None)


def watched(
    source: ByteStream, see: Callable[[bytes], None], end: Callable[[], None] | None = None, name: str = "watch"
) -> ByteStream:
    """Pass `source` on: `see` looks at every chunk, `end` at its end, never on the event loop. Either may raise, and
    the stream fails. Closes `source`.

    In the thread that the chunks come from, where there is one: what takes little time needs none of its own.
    """
    stage = _stage(source, name)
    stage.watch(see, end)
    return stage


def told(source: ByteStream, failed: Callable[[BaseException], None]) -> ByteStream:
    """Pass `source` on; `failed` is told its error, in a thread, before whoever reads it is. Not those of watchers.
    Closes `source`."""
    stage = _stage(source, "tell")
    stage.tell(failed)
    return stage


def _stage(source: ByteStream, name: str) -> Stage:
    """`source` itself, where nobody reads it yet."""
    if isinstance(source, Stage) and not source.begun:
        return source
    return Stage(lambda reader, sink: _pass_on(reader(), sink), name, source, None)


def _pass_on(reader: SourceReader, sink: Sink) -> None:
    for chunk in reader.chunks():
        sink.write(chunk)


async def consume(
    source: ByteStream,
    work: Callable[[SourceReader], T],
    name: str = "stage",
    interrupt: Callable[[], None] | None = None,
) -> T:
    """Run `work` over `source` in a thread and return its result. Closes `source`. `interrupt`: as for `produce`."""
    input = _Input(source)

    def end() -> None:
        input.queue.close()
        if interrupt is not None:
            interrupt()

    try:
        return await in_thread(lambda: work(SourceReader(input.queue)), name, end)
    finally:
        await input.end()


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
