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
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from app.db.changes import collect

T = TypeVar("T")
#: PostgreSQL's (appendix A): it shuts down or starts, the line broke, it lacks disk, memory or connections, it only
#: reads (a standby during a failover), another transaction was in the way.
_STATES = ("57P", "080", "53", "25006", "40001", "40P01")
#: SQLite's: somebody else holds the file for too long, or the disk is full, cannot be read or written, or opened.
_CODES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip


def is_outage(error: BaseException) -> bool:
    """Whether the database could not be reached, went away or has no room, so that the same may succeed later. Of a
    group, whether one of its errors is such."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_outage(one) for one in error.exceptions)
    if isinstance(error, DBAPIError):
        if isinstance(error.orig, sqlite3.Error):
            code = getattr(error.orig, "sqlite_errorcode", None)
            return error.connection_invalidated or (code is not None and code & 0xFF in _CODES)
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or isinstance(error, InterfaceError) or state.startswith(_STATES)
    if type(error).__module__.startswith("asyncpg"):  # while it connects
        return str(getattr(error, "sqlstate", "") or "57P").startswith(_STATES)
    return isinstance(error, ConnectionError | NoConnectionLeft | OutageError)


class OutageError(Exception):
    """The database cannot be reached, or has not been for longer than anybody waits."""


class _Session(Session):
    """Keeps what it has changed in `info`, for the audit trail."""


event.listen(_Session, "after_flush", collect)


class Database:
    """Makes sessions. Only the API's session dependency and the job runner call `transaction`."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        event.listen(self._engine.sync_engine, "do_connect", _connect)
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


def _connect(dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
    """A network's own errors, as no route, no name or no answer, look like anybody's."""
    try:
        return dialect.connect(*arguments, **options)
    except OSError as error:
        raise OutageError(f"The database cannot be reached: {error}") from error


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
