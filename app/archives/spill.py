"""What a destination lists, kept on disk: memory stays flat however much lies there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar

from app.storage.base import ObjectInfo

T = TypeVar("T")
_BATCH = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Spill:
    """Objects by key, in a temporary SQLite file; an object that is listed twice is one."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE object (key TEXT PRIMARY KEY, size, modified REAL) WITHOUT ROWID")
        self._database.execute("CREATE TABLE named (key TEXT PRIMARY KEY) WITHOUT ROWID")

    async def fill(self, listing: AsyncGenerator[ObjectInfo, None]) -> None:
        """Take in all of `listing`, and close it."""
        batch: list[tuple[str, int, float | None]] = []
        async with aclosing(listing):
            async for info in listing:
                batch.append((info.key, info.size, _when(info)))
                if len(batch) == _BATCH:
                    await self._add(batch)
                    batch = []
        await self._add(batch)

    async def add(self, objects: Iterable[ObjectInfo]) -> None:
        """Beside what is listed."""
        await self._add([(one.key, one.size, _when(one)) for one in objects])

    async def _add(self, batch: list[tuple[str, int, float | None]]) -> None:
        await self._run(lambda db: db.executemany("INSERT OR REPLACE INTO object VALUES (?, ?, ?)", batch))

    async def has(self, key: str) -> bool:
        query = "SELECT 1 FROM object WHERE key = ?"
        return await self._run(lambda db: db.execute(query, (key,)).fetchone()) is not None

    async def name(self, keys: Iterable[str]) -> None:
        """Note what is referred to."""
        rows = [(key,) for key in keys]
        await self._run(lambda db: db.executemany("INSERT OR IGNORE INTO named VALUES (?)", rows))

    async def name_below(self, prefix: str) -> None:
        """Note all that begins with `prefix`, which is not empty."""
        bounds = (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
        query = "INSERT OR IGNORE INTO named SELECT key FROM object WHERE key >= ? AND key < ?"
        await self._run(lambda db: db.execute(query, bounds))

    async def ending_with(self, suffix: str) -> AsyncGenerator[ObjectInfo, None]:
        """In the order of their keys. Others may be named meanwhile."""
        async for info in self._rows("substr(key, ?) = ?", (-len(suffix), suffix)):
            yield info

    async def unnamed(self) -> AsyncGenerator[ObjectInfo, None]:
        """What was not named, in the order of the keys."""
        async for info in self._rows("key NOT IN (SELECT key FROM named)", ()):
            yield info

    async def _rows(self, condition: str, values: tuple[Any, ...]) -> AsyncGenerator[ObjectInfo, None]:
        query = f"SELECT key, size, modified FROM object WHERE key > ? AND {condition} ORDER BY key LIMIT {_BATCH}"
        last = ""
        while rows := await self._run(lambda db: db.execute(query, (last, *values)).fetchall()):  # noqa: B023
            for key, size, modified in rows:
                yield ObjectInfo(key, size, None if modified is None else datetime.fromtimestamp(modified, UTC))
            last = rows[-1][0]

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One after the other: whoever is cancelled waits for the statement that has begun."""
        task = asyncio.ensure_future(asyncio.to_thread(work, self._database))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    def close(self) -> None:
        self._database.close()


def _when(info: ObjectInfo) -> float | None:
    return None if info.modified_at is None else (info.modified_at - _EPOCH).total_seconds()
