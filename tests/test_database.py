"""What a cancellation leaves behind in the database: nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.session import Database


async def test_a_write_that_is_cancelled_anywhere_locks_nobody_out(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE t (id integer PRIMARY KEY, a integer)"))
        await session.execute(text("INSERT INTO t VALUES (1, 0)"))

    async def write() -> None:
        async with database.transaction() as session:
            await session.scalar(text("UPDATE t SET a = a + 1 WHERE id = 1 RETURNING a"))

    kept = []  # errors hold on to cursors, as a log or a debugger may
    for turns in range(200):
        task = asyncio.create_task(write())
        for _ in range(turns % 50):
            await asyncio.sleep(0)
        await asyncio.sleep(turns % 7 * 0.0002)
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        kept.append(outcome)
        with closing(sqlite3.connect(tmp_path / "x.db", timeout=5)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.rollback()
    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in kept)
    await database.close()


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_an_error_rolls_back(tmp_path: Path, error: type[BaseException]) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE t (a integer)"))
    with pytest.raises(error):
        async with database.transaction() as session:
            await session.execute(text("INSERT INTO t VALUES (1)"))
            raise error
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM t")) == 0
    await database.close()
