"""What a cancellation leaves behind in the database: nothing."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.session import Database, is_outage


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


async def test_what_is_waited_for(tmp_path: Path) -> None:
    """A lock that is held for too long, a disk that only reads, a file that cannot be opened; but no mistake."""
    path = tmp_path / "x.db"
    database = Database(f"sqlite+aiosqlite:///{path}")
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE t (a integer PRIMARY KEY)"))

    async def raised(*statements: str) -> bool:
        with pytest.raises(Exception) as caught:
            async with database.transaction() as session:
                for statement in statements:
                    await session.execute(text(statement))
        return is_outage(caught.value) and is_outage(ExceptionGroup("parts", [ValueError(), caught.value]))

    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await raised("PRAGMA busy_timeout = 1", "INSERT INTO t VALUES (1)")
    assert await raised("PRAGMA query_only = ON", "INSERT INTO t VALUES (1)")
    assert not await raised("SELECT * FROM missing")
    assert not await raised("PRAGMA query_only = OFF", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)")
    await database.close()
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/missing/x.db")
    assert await raised("SELECT 1")
    await database.close()
    for thread in threading.enumerate():  # the library does not wait for that of a file that it could not open
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 10)


@pytest.mark.parametrize("error", [OSError(113, "No route to host"), TimeoutError(), socket.gaierror()])
async def test_a_server_that_cannot_be_reached_is_waited_for(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("asyncpg.connect", connect)
    database = Database("postgresql+asyncpg://nobody@192.0.2.1/none")
    with pytest.raises(Exception) as caught:
        await database.ping()
    assert is_outage(caught.value)
    await database.close()
