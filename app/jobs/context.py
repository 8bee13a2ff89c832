"""What a running job has: its progress, its ownership, its durable steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.streams import ByteStream, watched
from app.db.repositories.operations import OperationRepository
from app.db.session import Database, is_outage
from app.errors import OperationCancelled, OwnershipLost

Result = dict[str, Any]


class StepRunner(Protocol):
    """Runs a step once: after a restart its recorded result is returned instead."""

    async def __call__(self, name: str, work: Callable[[], Awaitable[Result]]) -> Result: ...


@dataclass(slots=True)
class JobContext:
    """`progress`: per component its name, state and bytes, written to the operation once a second."""

    uid: str
    attempt: int
    database: Database
    step: StepRunner
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: bool = False
    lost: bool = False

    def track(self, number: int, name: str, state: str) -> None:
        entry = self.progress.setdefault(str(number), {"name": name, "bytes": 0})
        entry["state"] = state

    def note(self, number: int, **facts: Any) -> None:
        """Add to what people see of a component."""
        self.progress[str(number)].update(facts)

    def waits(self, role: str, what: str | None) -> None:
        """Let people see, at all that has not ended, what is waited for; None: nothing any more."""
        for entry in self.progress.values():
            entry.pop("waits_for", None)
            if what is not None and entry["state"] in ("pending", "running"):
                entry["waits_for"] = what

    def metered(self, number: int, source: ByteStream) -> ByteStream:
        """Count what passes into the progress, from no more than one thread at a time."""
        entry = self.progress[str(number)]
        entry["bytes"] = 0

        def count(chunk: bytes) -> None:
            entry["bytes"] += len(chunk)

        return watched(source, count, name="progress")

    @property
    def bytes_done(self) -> int:
        return sum(int(entry["bytes"]) for entry in self.progress.values())

    async def beat(self) -> None:
        """Write the progress; learn whether to stop. Raises OwnershipLost, OperationCancelled."""

        async def work(session: AsyncSession) -> bool | None:
            return await OperationRepository(session).beat(self.uid, self.attempt, self.progress, self.bytes_done)

        asked = await self.database.patiently(work)
        if asked is None:
            self.lost = True
            raise OwnershipLost("Another attempt has taken this operation over")
        if asked:
            self.cancelled = True
            raise OperationCancelled("The operation was cancelled")

    async def record(self, **values: Any) -> None:
        """Change the operation's row while we own it. Raises OwnershipLost."""

        async def work(session: AsyncSession) -> bool:
            return await OperationRepository(session).update_owned(self.uid, self.attempt, **values)

        if not await self.database.patiently(work):
            self.lost = True
            raise OwnershipLost("Another attempt has taken this operation over")


async def heartbeat(context: JobContext, body: asyncio.Task[Any], seconds: float = 1.0) -> None:
    """Once a second: report, and cancel `body` when asked to or when ownership is lost. However this ends, `body`
    ends: without it nobody could stop it, nor would it learn that another attempt has taken over."""
    try:
        while not body.done():
            await asyncio.wait({body}, timeout=seconds)
            try:
                await context.beat()
            except (OperationCancelled, OwnershipLost):
                return
            except Exception as error:
                if not is_outage(error):
                    raise
    finally:
        body.cancel()
