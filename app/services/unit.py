"""One request's transaction, and what must wait until it is committed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.session import Database


@dataclass(slots=True)
class Unit:
    """`after_commit`: for example handing a job to the engine, which must find its row."""

    session: AsyncSession
    after_commit: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def release(self) -> None:
        """Commit what was written so far, so that no transaction is open while bytes move."""
        await self.session.commit()


@asynccontextmanager
async def transaction(database: Database) -> AsyncGenerator[Unit, None]:
    """Committed at the end of the block, and then what waits for that is done; rolled back on any error."""
    async with database.transaction() as session:
        unit = Unit(session)
        yield unit
    for callback in unit.after_commit:
        await callback()
