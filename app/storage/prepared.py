"""A driver that believes its destination only while that is the place that was prepared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Protocol

from app.errors import ObjectNotFound
from app.storage.base import ObjectInfo, OldVersions, Remains, StorageDriver


class Check(Protocol):
    """Raises DestinationNotPrepared when `driver` leads to another place than the one that was prepared. `past`: what
    `driver` shows as of a moment, whose marker is as good."""

    async def __call__(self, driver: StorageDriver, past: StorageDriver | None = None) -> None: ...


class PreparedDriver(StorageDriver):
    """Nothing is written, deleted or listed before `check` has passed once, and nothing is called absent unless it
    passes right then: an unmounted disk and an emptied bucket are no empty destination. What is found and read needs
    no such proof. `hidden`: keys that are not listed, as the marker that `check` looks for.
    """

    def __init__(self, driver: StorageDriver, check: Check, hidden: Callable[[str], bool]) -> None:
        self._driver = driver
        self._check = check
        self._hidden = hidden
        self._passed = False
        self._checking = asyncio.Lock()
        self.verification = driver.verification

    async def confirm(self) -> None:
        async with self._checking:
            self._passed = False
            await self._checked()
            self._passed = True

    async def _checked(self) -> None:
        await self._check(self._driver)

    async def _prepared(self) -> None:
        if self._passed:
            return
        async with self._checking:
            if not self._passed:
                await self._checked()
                self._passed = True

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        await self._prepared()
        return await self._driver.put(key, stream, size)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._driver.get(key, offset)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ObjectNotFound:
            await self.confirm()
            raise

    async def stat(self, key: str) -> ObjectInfo:
        try:
            return await self._driver.stat(key)
        except ObjectNotFound:
            await self.confirm()
            raise

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        await self._prepared()
        async with aclosing(self._driver.list(prefix)) as found:
            async for info in found:
                if not self._hidden(info.key):
                    yield info

    async def delete(self, key: str) -> Remains | None:
        await self._prepared()
        return await self._driver.delete(key)

    def at(self, moment: datetime) -> StorageDriver:
        return _PreparedPast(self._driver, self._driver.at(moment), self._check, self._hidden)

    async def history(self, prefix: str = "") -> AsyncGenerator[OldVersions, None]:
        await self._prepared()
        async with aclosing(self._driver.history(prefix)) as found:
            async for old in found:
                if not self._hidden(old.key):
                    yield old

    async def keeps_history(self) -> bool | None:
        return await self._driver.keeps_history()

    async def locked_until(self, key: str) -> datetime | None:
        try:
            return await self._driver.locked_until(key)
        except ObjectNotFound:
            await self.confirm()
            raise

    async def lock(self, key: str, until: datetime) -> None:
        await self._prepared()
        await self._driver.lock(key, until)

    async def connections(self) -> tuple[int, int] | None:
        return await self._driver.connections()

    async def make_place(self) -> None:
        await self._driver.make_place()

    async def free_bytes(self) -> int | None:
        await self._prepared()
        return await self._driver.free_bytes()

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        await self._prepared()
        return await self._driver.remove_leftovers(prefix, older_than)

    async def close(self) -> None:
        await self._driver.close()


class _PreparedPast(PreparedDriver):
    """What is listed needs no marker either: in the wrong place there is nothing of ours, and in the right one
    whoever deleted the backups may have deleted the marker."""

    def __init__(
        self, present: StorageDriver, past: StorageDriver, check: Check, hidden: Callable[[str], bool]
    ) -> None:
        super().__init__(past, check, hidden)
        self._present = present

    async def _checked(self) -> None:
        await self._check(self._present, self._driver)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        async with aclosing(self._driver.list(prefix)) as found:
            async for info in found:
                if not self._hidden(info.key):
                    yield info
