"""The engine with jobs that fail: what the database's absence has ended goes on, and everything ends once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.bootstrap import migrate
from app.db.models import Operation
from app.db.repositories.operations import ACTIVE, OperationRepository
from app.db.session import Database, OutageError
from app.jobs import engine as engines
from app.jobs.context import JobContext, Result
from app.jobs.engine import JobEngine
from app.jobs.outcome import Outcome
from app.jobs.runner import Job, OperationRunner
from app.services.audit import AuditService
from app.services.notices import Notices
from app.settings import JobSettings, Settings


class Cut(Job):
    """Its step finds no database, the first time."""

    def __init__(self) -> None:
        self.tries = 0

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        async def work() -> Result:
            self.tries += 1
            if self.tries == 1:
                raise ExceptionGroup("parts", [OutageError("gone")])
            return {"tries": self.tries}

        return Outcome("completed", await context.step("work", work))

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)


class Stuck(Cut):
    """Neither works nor can be put right."""

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        raise ValueError("unexpected")

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        raise ValueError("unexpected again")


async def test_an_outage_is_not_recorded_as_a_steps_result(tmp_path: Path) -> None:
    async with _ended(tmp_path, Cut()) as operation:
        assert (operation.status, operation.result) == ("completed", {"tries": 2}), operation.error_message


async def test_an_operation_that_cannot_be_put_right_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_AFTER_ERROR_SECONDS", 0)
    async with _ended(tmp_path, Stuck()) as operation:
        assert (operation.status, operation.error_code, operation.attempt) == ("failed", "crashed", 3)
        assert "could not be put right" in (operation.error_message or "")


async def _nothing_waits() -> frozenset[str]:
    return frozenset()


@asynccontextmanager
async def _ended(folder: Path, job: Job) -> AsyncGenerator[Operation, None]:
    settings = Settings(data=folder)
    await asyncio.to_thread(migrate, settings)
    database = Database(settings.database_url)
    engine = JobEngine(settings.engine_url, database, JobSettings(), _nothing_waits, replicated=False)
    runner = OperationRunner(database, {"sweep": job}, 2, Notices(), AuditService(b"key"))
    await engine.start(runner, set(), None)
    try:
        operation = Operation(type="sweep", domain_uid="d", request={})
        async with database.transaction() as session:
            OperationRepository(session).add(operation)
        await engine.wake()
        async with asyncio.timeout(60):
            while True:
                async with database.transaction() as session:
                    found = await OperationRepository(session).by_uid(operation.uid)
                if found is not None and found.status not in ACTIVE:
                    break
                await asyncio.sleep(0.05)
        yield found
    finally:
        await engine.stop()
        await database.close()
