"""What runs besides operations does not end by itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.jobs.background import BackgroundTask
from app.jobs.leases import Leases


class Failing(BackgroundTask):
    def __init__(self, *failures: BaseException | None) -> None:
        self.failures = list(failures)
        self.works = asyncio.Event()

    async def _run(self) -> None:
        if not self.failures:
            self.works.set()
            await asyncio.Event().wait()
        failure = self.failures.pop(0)
        if failure is not None:
            raise failure


async def test_a_task_that_ends_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.background._PAUSE", 0)
    task = Failing(ValueError("x"), asyncio.CancelledError(), None, ExceptionGroup("y", [OSError()]))
    task.start()
    async with asyncio.timeout(30):
        await task.works.wait()
        await task.stop()


class Cancelling:
    """A database whose driver cancels what it was asked for, as a library's own time limit may."""

    @asynccontextmanager
    async def transaction(self) -> Any:
        raise asyncio.CancelledError
        yield


async def _nobody() -> set[str]:
    return set()


async def _recover(ids: list[str]) -> None:
    """Nothing to do."""


async def _stopped(leases: Leases) -> None:
    for task in leases._tasks:
        task.cancel()
    await asyncio.wait(leases._tasks)


async def test_a_process_whose_lease_nobody_renews_is_fenced() -> None:
    fenced = asyncio.Event()
    leases = Leases(Cancelling(), "me", 0.1, {}, _nobody, _recover, fenced.set)  # type: ignore[arg-type]
    leases.keep()
    async with asyncio.timeout(30):
        await fenced.wait()
    await _stopped(leases)


async def test_a_process_that_stops_is_not_fenced() -> None:
    fenced = asyncio.Event()
    leases = Leases(Cancelling(), "me", 1000, {}, _nobody, _recover, fenced.set)  # type: ignore[arg-type]
    leases.keep()
    await asyncio.sleep(0)
    await _stopped(leases)
    assert not fenced.is_set()
