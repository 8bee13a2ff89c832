"""A wrapper that lets a destination fail: which operation, at which call, and how."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from app.errors import DestinationUnreachable, NoSpace, ObjectNotFound, StorageError
from app.storage.base import ObjectInfo, StorageDriver

OPERATIONS = ("put", "get", "stat", "list", "delete")
KINDS = ("before", "after", "middle", "timeout", "reset", "truncated", "busy", "no_space", "stale")


@dataclass(frozen=True, slots=True)
class Fault:
    """`operation` fails at its `nth` call, counted from 0, as `kind` says:

    before, timeout, reset, busy, no_space: an error, nothing is done; after: it is done, and an error is raised;
    middle: an error half-way; truncated: half of it, and no error; stale: as if the last change had not been made.
    """

    operation: str
    nth: int
    kind: str

    def error(self, what: str) -> StorageError:
        if self.kind == "no_space":
            return NoSpace(f"{what}: no space (made up)")
        return DestinationUnreachable(f"{what}: {self.kind} (made up)")


class FaultyDriver(StorageDriver):
    """One fault, once; `hit` tells whether its moment came."""

    def __init__(self, inner: StorageDriver, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault
        self._calls = dict.fromkeys(OPERATIONS, 0)
        self._newest: str | None = None
        self.hit = False

    def _due(self, operation: str) -> bool:
        number = self._calls[operation]
        self._calls[operation] += 1
        due = operation == self._fault.operation and number == self._fault.nth
        self.hit = self.hit or due
        return due

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        if not self._due("put"):
            self._newest = key
            return await self._inner.put(key, stream, size)
        kind = self._fault.kind
        if kind in ("truncated", "stale"):  # a server that says all is well
            content = b"".join([chunk async for chunk in stream])
            if kind == "truncated":
                await self._inner.put(key, _once(content[: len(content) // 2]))
            return ObjectInfo(key, len(content))
        if kind == "after":
            await self._inner.put(key, stream, size)
        if kind == "middle":
            await self._inner.put(key, _broken(stream, self._fault.error(key)), size)
        raise self._fault.error(key)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        due = self._due("get")
        kind = self._fault.kind
        if due and kind == "stale":
            raise ObjectNotFound(key)
        if due and kind not in ("after", "middle", "truncated"):
            raise self._fault.error(key)
        content = b"".join([chunk async for chunk in self._inner.get(key, offset)])
        yield content[: len(content) // 2] if due and kind != "after" else content
        if due and kind != "truncated":
            raise self._fault.error(key)

    async def stat(self, key: str) -> ObjectInfo:
        due = self._due("stat")
        info = await self._inner.stat(key)
        if due and self._fault.kind == "truncated":
            return replace(info, size=info.size // 2)
        if due and self._fault.kind == "stale":
            raise ObjectNotFound(key)
        if due:
            raise self._fault.error(key)
        return info

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        due = self._due("list")
        kind = self._fault.kind
        if due and kind not in ("after", "middle", "truncated", "stale"):
            raise self._fault.error(prefix)
        found = [info async for info in self._inner.list(prefix)]
        if due and kind == "stale":
            found = [info for info in found if info.key != self._newest]
        for info in found[: len(found) // 2] if due and kind in ("middle", "truncated") else found:
            yield info
        if due and kind in ("after", "middle"):
            raise self._fault.error(prefix)

    async def delete(self, key: str) -> None:
        due = self._due("delete")
        if due and self._fault.kind in ("stale", "truncated"):  # it says that it has
            return
        if due and self._fault.kind not in ("after", "middle"):
            raise self._fault.error(key)
        await self._inner.delete(key)
        if due:
            raise self._fault.error(key)


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


async def _broken(stream: AsyncIterator[bytes], error: StorageError) -> AsyncGenerator[bytes, None]:
    async for chunk in stream:
        yield chunk[: len(chunk) // 2]
        raise error
