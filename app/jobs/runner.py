"""Runs one operation: claim, work under a heartbeat, end. The only place besides the API that commits."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

from app.db.base import now
from app.db.models import Operation
from app.db.repositories.operations import OperationRepository
from app.db.session import Database, is_outage
from app.errors import LiberuError, OperationCancelled
from app.jobs.context import JobContext, StepRunner, heartbeat
from app.jobs.outcome import Outcome
from app.services.audit import AuditService
from app.services.notices import Notices

log = logging.getLogger(__name__)
_UNEXPECTED = "An internal error; the service's log names operation {uid}"


class Job(ABC):
    @abstractmethod
    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        """Do the work. May be called again after a restart: what `context.step` recorded is not done twice."""

    @abstractmethod
    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        """The outcome of an operation that was cancelled or failed as a whole."""

    async def tidy(self, operation: Operation) -> None:  # noqa: B027  most jobs keep nothing
        """Remove what was kept until the operation had ended. Idempotent; its failure changes no outcome."""


class OperationRunner:
    def __init__(
        self, database: Database, jobs: dict[str, Job], max_attempts: int, notices: Notices, audit: AuditService
    ) -> None:
        self._audit = audit
        self._notices = notices
        self._database = database
        self._jobs = jobs
        self._max_attempts = max_attempts

    @property
    def types(self) -> list[str]:
        """The types of operations that can be run."""
        return list(self._jobs)

    async def run(self, uid: str, step: StepRunner) -> None:
        """Run an operation to its end. A cancellation from outside leaves it to the next start; so does a database
        that cannot be reached, whose error is raised (see is_outage)."""
        async with self._database.transaction() as session:
            operation = await OperationRepository(session).claim(uid)
            if operation is not None and operation.attempt == 1:
                await self._notices.operation(session, operation, "started", None, None)
            ended = None if operation is not None else await OperationRepository(session).by_uid(uid)
        if operation is None:
            if ended is not None:
                await self._tidy(ended)
            return
        job = self._jobs[operation.type]
        context = JobContext(uid, operation.attempt, self._database, step)
        if operation.attempt > self._max_attempts:
            message = f"The service was stopped {self._max_attempts} times while this ran; it was given up"
            outcome: Outcome | None = await self._failed(job, operation, "crashed", message)
        else:
            outcome = await self._work(job, operation, context)
        if outcome is not None and await self._end(operation, context, outcome):
            await self._tidy(operation)

    async def _tidy(self, operation: Operation) -> None:
        try:
            await self._jobs[operation.type].tidy(operation)
        except LiberuError:
            log.exception("Operation %s has ended, but not all that it kept could be removed", operation.uid)

    async def _work(self, job: Job, operation: Operation, context: JobContext) -> Outcome | None:
        body = asyncio.create_task(job.run(operation, context))
        beat = asyncio.create_task(heartbeat(context, body))
        try:
            outcome = await body
            if context.cancelled and outcome.code == OperationCancelled.code:  # a part was the first to learn of it
                outcome.status = "cancelled"
            return outcome
        except asyncio.CancelledError:
            if context.cancelled:
                return await job.abandon(operation, "cancelled", None)
            if not context.lost and beat.done():
                log.exception("Operation %s was ended: its heartbeat failed", operation.uid, exc_info=_cause(beat))
                return await self._failed(job, operation, "internal_error", _UNEXPECTED.format(uid=operation.uid))
            if not context.lost:
                body.cancel()
                await asyncio.wait({body})
                raise
            return None
        except LiberuError as error:
            if context.lost:
                return None
            if context.cancelled:
                return await job.abandon(operation, "cancelled", None)
            return await self._failed(job, operation, error.code, error.message)
        except Exception as error:  # whatever it is, the operation must end, and somebody must be able to see why
            if is_outage(error):
                raise
            log.exception("Operation %s failed unexpectedly", operation.uid)
            return await self._failed(job, operation, "internal_error", _UNEXPECTED.format(uid=operation.uid))
        finally:
            beat.cancel()
            await asyncio.wait({beat})

    async def _failed(self, job: Job, operation: Operation, code: str, message: str) -> Outcome:
        """Whatever else goes wrong, the last attempt ends the operation."""
        try:
            outcome = await job.abandon(operation, "failed", message)
        except Exception as error:
            if is_outage(error) or operation.attempt <= self._max_attempts:
                raise
            log.exception("What operation %s had begun could not be put right", operation.uid)
            outcome = Outcome("failed", {}, f"{message}. What it had begun could not be put right: see the log")
        outcome.code = outcome.code or code
        return outcome

    async def _end(self, operation: Operation, context: JobContext, outcome: Outcome) -> bool:
        """Record the outcome; False when another attempt owns the operation."""
        async with self._database.transaction() as session:
            owned = await OperationRepository(session).update_owned(
                operation.uid,
                operation.attempt,
                status=outcome.status,
                result=outcome.result,
                request=operation.lasting_request,
                progress=context.progress,
                bytes_done=context.bytes_done,
                error_code=outcome.code,
                error_message=outcome.message,
                finished_at=now(),
            )
            if not owned:
                return False
            if outcome.apply is not None:
                await outcome.apply(session)
            await self._notices.operation(session, operation, outcome.status, outcome.code, outcome.message)
            await self._audit.record(
                session,
                actor="service",
                user_id=operation.user_id,
                action=f"operation.{operation.type}",
                target=operation.uid,
                outcome=outcome.status,
                detail={"backup_id": operation.backup_id, "code": outcome.code},
            )
        return True


def _cause(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
