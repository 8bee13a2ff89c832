"""The runner around a job: what it does when a process died after the operation had ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.bootstrap import migrate
from app.db.models import Operation
from app.db.repositories.operations import OperationRepository
from app.db.session import Database
from app.errors import SwapImpossible
from app.jobs.context import JobContext
from app.jobs.outcome import Outcome
from app.jobs.runner import Job, OperationRunner
from app.services.audit import AuditService
from app.services.notices import Notices
from app.settings import Settings


class Replacing(Job):
    """Ends well, and is killed, or fails, while it removes what it replaced."""

    def __init__(self, *failures: type[BaseException]) -> None:
        self.failures = list(failures)
        self.ran = 0
        self.tidied = 0

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        self.ran += 1
        return Outcome("completed", {})

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)

    async def tidy(self, operation: Operation) -> None:
        if self.failures:
            raise self.failures.pop(0)("busy")
        self.tidied += 1


class Killed(BaseException):
    pass


async def step(name: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    return await work()


async def test_a_restart_removes_what_an_ended_operation_had_kept(tmp_path: Path) -> None:
    job = Replacing(Killed)
    async with _operation(tmp_path) as (database, uid):
        runner = OperationRunner(database, {"restore": job}, 5, Notices(), AuditService(b"key"))
        try:
            await runner.run(uid, step)
        except Killed:
            assert await _status(database, uid) == "completed", "people do not wait for the removal"
        await runner.run(uid, step)
    assert (job.ran, job.tidied) == (1, 1)


async def test_a_removal_that_fails_changes_no_outcome(tmp_path: Path) -> None:
    async with _operation(tmp_path) as (database, uid):
        await OperationRunner(
            database, {"restore": Replacing(SwapImpossible)}, 5, Notices(), AuditService(b"key")
        ).run(uid, step)
        assert await _status(database, uid) == "completed"


async def _status(database: Database, uid: str) -> str:
    async with database.transaction() as session:
        found = await OperationRepository(session).by_uid(uid)
    assert found is not None
    return found.status


@asynccontextmanager
async def _operation(folder: Path) -> AsyncGenerator[tuple[Database, str], None]:
    settings = Settings(data=folder)
    await asyncio.to_thread(migrate, settings)
    database = Database(settings.database_url)
    operation = Operation(type="restore", domain_uid="d", request={})
    async with database.transaction() as session:
        OperationRepository(session).add(operation)
    yield database, operation.uid
    await database.close()
