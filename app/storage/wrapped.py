"""A driver around another one, which every call is passed on to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from datetime import datetime

from app.storage.base import ObjectInfo, OldVersions, Remains, StorageDriver


class WrappedDriver(StorageDriver):
    """What wraps a driver overrides what it changes, and `at`, whose driver is to be wrapped as well. `_around` is
    entered for every call."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver
        self.verification = driver.verification

    def _around(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        with self._around():
            return await self._driver.put(key, stream, size)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        with self._around():
            async with aclosing(self._driver.get(key, offset)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def stat(self, key: str) -> ObjectInfo:
        with self._around():
            return await self._driver.stat(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        with self._around():
            async with aclosing(self._driver.list(prefix)) as found:
                async for info in found:
                    yield info

    async def delete(self, key: str) -> Remains | None:
        with self._around():
            return await self._driver.delete(key)

    async def history(self, prefix: str = "") -> AsyncGenerator[OldVersions, None]:
        with self._around():
            async with aclosing(self._driver.history(prefix)) as found:
                async for old in found:
                    yield old

    async def keeps_history(self) -> bool | None:
        with self._around():
            return await self._driver.keeps_history()

    async def locked_until(self, key: str) -> datetime | None:
        with self._around():
            return await self._driver.locked_until(key)

    async def lock(self, key: str, until: datetime) -> None:
        with self._around():
            await self._driver.lock(key, until)

    async def connections(self) -> tuple[int, int] | None:
        with self._around():
            return await self._driver.connections()

    async def confirm(self) -> None:
        with self._around():
            await self._driver.confirm()

    async def make_place(self) -> None:
        with self._around():
            await self._driver.make_place()

    async def free_bytes(self) -> int | None:
        with self._around():
            return await self._driver.free_bytes()

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        with self._around():
            return await self._driver.remove_leftovers(prefix, older_than)

    async def close(self) -> None:
        await self._driver.close()
