"""One request's transaction, and what must wait until it is committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(slots=True)
class Unit:
    """`after_commit`: for example handing a job to the engine, which must find its row."""

    session: AsyncSession
    after_commit: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def release(self) -> None:
        """Commit what was written so far, so that no transaction is open while bytes move."""
        await self.session.commit()
