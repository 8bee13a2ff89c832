"""A driver that says what is wrong, but not where: for destinations that are used by others than their owner."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime

from app.errors import LiberuError
from app.storage.base import ObjectInfo, OldVersions, Remains, StorageDriver

log = logging.getLogger(__name__)
#: As asyncio writes where it could not connect to, and what may be an address.
_PEER = re.compile(r"\('[^']*', \d+(?:, \d+, \d+)?\)")
_ADDRESS = re.compile(r"(?<![\w.:])[0-9a-fA-F:.]{2,45}(?![\w:])")
_HIDDEN = "…"


class DiscreetDriver(StorageDriver):
    """`words`: of the place, which no error's message holds. The log has the whole message, for operators."""

    def __init__(self, driver: StorageDriver, words: Sequence[str]) -> None:
        self._driver = driver
        self._words = words
        longest_first = sorted((word for word in words if word.strip("/")), key=len, reverse=True)
        named = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first)
        self._places = [re.compile(named)] if named else []
        self.verification = driver.verification

    @contextmanager
    def _discreet(self) -> Iterator[None]:
        try:
            yield
        except LiberuError as error:
            message = error.message
            for pattern in (*self._places, _PEER):
                message = pattern.sub(_HIDDEN, message)
            message = _ADDRESS.sub(_without_address, message)
            if message != error.message:
                log.warning("A shared destination: %s", error.message)
                error.message, error.args = message, (message,)
            raise

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        with self._discreet():
            return await self._driver.put(key, stream, size)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        with self._discreet():
            async with aclosing(self._driver.get(key, offset)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def stat(self, key: str) -> ObjectInfo:
        with self._discreet():
            return await self._driver.stat(key)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        with self._discreet():
            async with aclosing(self._driver.list(prefix)) as found:
                async for info in found:
                    yield info

    async def delete(self, key: str) -> Remains | None:
        with self._discreet():
            return await self._driver.delete(key)

    def at(self, moment: datetime) -> StorageDriver:
        with self._discreet():
            return DiscreetDriver(self._driver.at(moment), self._words)

    async def history(self, prefix: str = "") -> AsyncGenerator[OldVersions, None]:
        with self._discreet():
            async with aclosing(self._driver.history(prefix)) as found:
                async for old in found:
                    yield old

    async def keeps_history(self) -> bool | None:
        with self._discreet():
            return await self._driver.keeps_history()

    async def locked_until(self, key: str) -> datetime | None:
        with self._discreet():
            return await self._driver.locked_until(key)

    async def lock(self, key: str, until: datetime) -> None:
        with self._discreet():
            await self._driver.lock(key, until)

    async def connections(self) -> tuple[int, int] | None:
        with self._discreet():
            return await self._driver.connections()

    async def confirm(self) -> None:
        with self._discreet():
            await self._driver.confirm()

    async def make_place(self) -> None:
        with self._discreet():
            await self._driver.make_place()

    async def free_bytes(self) -> int | None:
        with self._discreet():
            return await self._driver.free_bytes()

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        with self._discreet():
            return await self._driver.remove_leftovers(prefix, older_than)

    async def close(self) -> None:
        await self._driver.close()


def _without_address(found: re.Match[str]) -> str:
    text = found[0].rstrip(".:") if not found[0].endswith("::") else found[0]
    try:
        ipaddress.ip_address(text)
    except ValueError:  # a time, a number, a word
        return found[0]
    return _HIDDEN + found[0][len(text) :]
