"""The database: one engine, short sessions."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from app.db.changes import collect

T = TypeVar("T")
_SHUTDOWN = ("57P", "080")


def is_outage(error: BaseException) -> bool:
    """Whether the database could not be reached or went away, so that the same may succeed later. What the server
    says when it shuts down or starts has a class of its own (PostgreSQL, appendix A: 57P, 08)."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or isinstance(error, InterfaceError) or state[:3] in _SHUTDOWN
    if type(error).__module__.startswith("asyncpg"):  # while it connects
        return str(getattr(error, "sqlstate", "") or "57P")[:3] in _SHUTDOWN
    return isinstance(error, ConnectionError | OutageError)


class OutageError(Exception):
    """The database has not been reachable for longer than anybody waits."""


class _Session(Session):
    """Keeps what it has changed in `info`, for the audit trail."""


event.listen(_Session, "after_flush", collect)


class Database:
    """Makes sessions. Only the API's session dependency and the job runner call `transaction`."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self._engine.sync_engine, "invalidate", _roll_back)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, sync_session_class=_Session)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession, None]:
        """A session that commits at the end of the block and rolls back on any error."""
        async with self._sessions() as session:
            try:
                yield session
            except BaseException:
                await session.rollback()
                raise
            await session.commit()

    async def patiently(self, work: Callable[[AsyncSession], Awaitable[T]], seconds: float = 60) -> T:
        """`work` in a transaction of its own; again while the database cannot be reached, so it must be repeatable.

        Raises OutageError when it cannot be reached for so long.
        """
        deadline, pause = time.monotonic() + seconds, 0.1
        while True:
            try:
                async with self.transaction() as session:
                    return await work(session)
            except Exception as error:
                if not is_outage(error):
                    raise
                if time.monotonic() >= deadline:
                    raise OutageError("The database cannot be reached") from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2)

    async def ping(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self._engine.dispose()


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 15000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _roll_back(connection: Any, _record: object, _error: object) -> None:
    """Before a connection is given up, as after a cancellation: SQLite closes one only when nobody holds a cursor of
    it any more, and until then it keeps its lock."""
    with suppress(sqlite3.Error, ValueError):  # it is closed already
        connection.rollback()
