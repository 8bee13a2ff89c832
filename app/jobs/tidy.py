"""Sees to what restores of a domain have left: half-done changes are settled, what was replaced is removed."""

from __future__ import annotations

import asyncio
import logging

from app.db.base import now
from app.db.models import Operation
from app.db.repositories.remains import RemainsRepository
from app.db.session import Database
from app.jobs.background import BackgroundTask
from app.jobs.context import JobContext
from app.jobs.outcome import Outcome
from app.jobs.restoring import Restoring
from app.jobs.runner import Job
from app.services.unit import transaction
from app.services.upkeep import UpkeepService

log = logging.getLogger(__name__)


class TidyJob(Job):
    """Its domain's turn is its own: no backup or restore of it runs meanwhile. Can be repeated."""

    def __init__(self, restoring: Restoring) -> None:
        self._restoring = restoring

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        done = await self._restoring.see_to(operation.domain_id or 0, context)
        for one in done:
            one.pop("error", None)
        bad = [one for one in done if one["status"] == "failed"]
        if not bad:
            return Outcome("completed", {"parts": done})
        status = "partial" if len(bad) < len(done) else "failed"
        return Outcome(status, {"parts": done}, bad[0]["message"], code=bad[0]["code"])

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)


class Tidier(BackgroundTask):
    """Starts a TidyJob for each domain that something is due for. Every process may have one: those of one domain run
    one after the other, and the second finds nothing to do."""

    def __init__(self, database: Database, upkeep: UpkeepService, seconds: float) -> None:
        self._database = database
        self._upkeep = upkeep
        self._seconds = seconds

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.start_due()
            except Exception as error:  # noqa: BLE001,RUF100  the next time may succeed
                log.warning("What restores left could not be looked at: %s", type(error).__name__, exc_info=True)

    async def start_due(self) -> None:
        async with transaction(self._database) as unit:
            repository = RemainsRepository(unit.session)
            for domain in await repository.due_domains(now()):
                await self._upkeep.record_tidy(unit, domain)
            for row in await repository.homeless():
                log.warning(
                    "The domain of operation %s is gone; what it has left stays there: %s", row.operation_uid,
                    (row.journal.get("plan") or {}).get("target") or row.name,
                )  # fmt: skip
                await repository.forget(row)
