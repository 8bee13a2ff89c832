"""The backup job after a restart: a recorded step runs nothing, and nothing waits for it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from app.jobs.backup import BackupJob
from app.jobs.context import JobContext
from app.services.components import Planned


async def test_files_do_not_wait_for_a_database_that_was_stored_before_the_restart() -> None:
    async def recorded(name: str, work: object) -> dict[str, Any]:
        return {"name": name}

    job = cast("Any", object.__new__(BackupJob))
    context = cast("JobContext", type("Context", (), {"step": staticmethod(recorded)})())
    opened = {2: asyncio.Event()}
    database = Planned(2, "postgresql", "shop")
    result = await job._component(None, database, context, asyncio.Semaphore(1), opened, None)
    assert result == {"name": "component-2"}
    assert opened[2].is_set()
