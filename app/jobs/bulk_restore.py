"""The bulk restore: a parent that starts one restore after the other, in parallel across domains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from app.db.models import Operation
from app.db.repositories.operations import ACTIVE, OperationRepository
from app.db.session import Database
from app.errors import LiberuError
from app.jobs.context import JobContext
from app.jobs.outcome import Outcome
from app.jobs.restore import RestoreJob
from app.jobs.runner import Job
from app.services.operations import JobQueue
from app.services.turns import WAITED_FOR

_POLL_SECONDS = 0.3
_CANCEL_SECONDS = 60
Plan = dict[str, Any]


class BulkRestoreJob(Job):
    """Its restores are operations of their own, so a restart goes on with what they say: none is started twice.

    `parallel`: how many domains are restored at once. A domain's backups are restored in the order they were named.
    """

    def __init__(self, database: Database, queue: JobQueue, restores: RestoreJob, parallel: int) -> None:
        self._database = database
        self._queue = queue
        self._restores = restores
        self._parallel = parallel

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        plans: list[Plan] = operation.request["restores"]
        unfit = await self._preflight(operation, plans, context)
        if operation.request["dry_run"]:
            return _outcome(plans, {}, unfit, dry_run=True)
        going_on: bool = operation.request["continue_on_error"]
        if unfit and not going_on:
            return _outcome(plans, {}, unfit)
        waiting = [plan for plan in plans if str(plan["backup_id"]) not in unfit]
        while True:
            known = await self._known(operation)
            _show(plans, known, unfit, context)
            stopped = not going_on and any(_failed(child) for child in known.values())
            active = {child.domain_uid for child in known.values() if child.status in ACTIVE}
            ready = [] if stopped else _ready(waiting, known, active)
            for plan in ready[: self._parallel - len(active)]:
                await self._start(operation, plan, context)
            if not ready and not active:
                return _outcome(plans, known, unfit)
            await asyncio.sleep(_POLL_SECONDS)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        """Stops the restores that run, and says what became of each."""
        async with self._database.transaction() as session:
            repository = OperationRepository(session)
            for child in await repository.children(operation.id):
                await repository.request_cancel(child.id)
        known = await self._known(operation)
        for _ in range(round(_CANCEL_SECONDS / _POLL_SECONDS)):
            if not any(child.status in ACTIVE for child in known.values()):
                break
            await asyncio.sleep(_POLL_SECONDS)
            known = await self._known(operation)
        ended = _outcome(operation.request["restores"], known, operation.journal.get("unfit", {}))
        return Outcome(status, ended.result, message)

    async def _preflight(self, operation: Operation, plans: list[Plan], context: JobContext) -> dict[str, Plan]:
        """Why backups cannot be restored, by id; found out for all of them before the first is started."""
        if "unfit" in operation.journal:
            found: dict[str, Plan] = operation.journal["unfit"]
            return found
        _show(plans, {}, {}, context)
        unfit: dict[str, Plan] = {}
        places = asyncio.Semaphore(self._parallel * 2)

        async def check(plan: Plan) -> None:
            trial = self._child(operation, plan)
            trial.request = {**trial.request, "dry_run": True, "checks_only": True}
            alone = JobContext(operation.uid, context.attempt, self._database, context.step)
            async with places:
                try:
                    await self._restores.run(trial, alone)
                except LiberuError as error:
                    unfit[str(plan["backup_id"])] = {"code": error.code, "message": error.message}

        async with asyncio.TaskGroup() as group:
            for plan in plans:
                if plan["server"] is None:  # elsewhere only a worker there can look; a restore does before it begins
                    group.create_task(check(plan))
        operation.journal["unfit"] = unfit
        await context.record(journal=operation.journal)
        return unfit

    async def _known(self, operation: Operation) -> dict[int, Operation]:
        """The restores that were started, by backup."""
        async with self._database.transaction() as session:
            children = await OperationRepository(session).children(operation.id)
        return {child.backup_id or 0: child for child in children}

    @staticmethod
    def _child(operation: Operation, plan: Plan) -> Operation:
        request = dict(plan["request"])
        if "identity" in operation.request:
            request["identity"] = operation.request["identity"]
        kept = ("backup_id", "domain_id", "domain_uid", "user_id", "bytes_total", "server", "destination_id")
        return Operation(
            type="restore",
            parent_id=operation.id,
            request=request,
            journal={},
            priority=WAITED_FOR,
            destinations=[plan["destination_id"]],
            **{name: plan[name] for name in kept},
        )

    async def _start(self, operation: Operation, plan: Plan, context: JobContext) -> None:
        """Recorded before it is queued; what was recorded and not queued when the service died, the engine queues."""
        await context.beat()  # while this attempt owns the operation
        async with self._database.transaction() as session:
            child = self._child(operation, plan)
            session.add(child)
        await self._queue.wake()


def _ready(waiting: Sequence[Plan], known: dict[int, Operation], active: set[str]) -> list[Plan]:
    """The next of each domain that has none running."""
    found: dict[str, Plan] = {}
    for plan in waiting:
        if plan["backup_id"] not in known and plan["domain_uid"] not in active:
            found.setdefault(plan["domain_uid"], plan)
    return list(found.values())


def _failed(child: Operation) -> bool:
    return child.status not in (*ACTIVE, "completed")


def _show(plans: list[Plan], known: dict[int, Operation], unfit: dict[str, Plan], context: JobContext) -> None:
    for number, plan in enumerate(plans, 1):
        child = known.get(plan["backup_id"])
        state = "failed" if str(plan["backup_id"]) in unfit else "pending" if child is None else child.status
        context.track(number, plan["domain_name"], state)
        context.note(number, backup_id=plan["backup_id"], bytes=child.bytes_done if child is not None else 0)
        if child is not None:
            context.note(number, operation_id=child.id)


def _outcome(
    plans: list[Plan], known: dict[int, Operation], unfit: dict[str, Plan], *, dry_run: bool = False
) -> Outcome:
    """`not_started` names what was left when one failed, or the operation was cancelled."""
    details = [
        _detail(plan, known.get(plan["backup_id"]), unfit.get(str(plan["backup_id"])), dry_run) for plan in plans
    ]
    good = [item for item in details if item["status"] == ("ready" if dry_run else "completed")]
    failures = [item for item in details if item["status"] in ("partial", "failed", "cancelled")]
    result = {
        "dry_run": dry_run,
        "total": len(plans),
        "successful": len(good),
        "failed": len(failures),
        "not_started": [item["backup_id"] for item in details if item["status"] == "not_started"],
        "details": details,
    }
    if len(good) == len(plans):
        return Outcome("completed", result)
    first = next((item for item in failures if item["error_message"]), None)
    because = f", the first because: {first['error_message']}" if first else ""
    message = f"{len(failures)} of {len(plans)} backups were not restored whole{because}"
    return Outcome("partial" if good else "failed", result, message, code=first["error_code"] if first else None)


def _detail(plan: Plan, child: Operation | None, unfit: Plan | None, dry_run: bool) -> Plan:
    found: Plan = {
        "backup_id": plan["backup_id"], "domain_name": plan["domain_name"], "operation_id": None,
        "status": "ready" if dry_run else "not_started", "error_code": None, "error_message": None,
    }  # fmt: skip
    if unfit is not None:
        return found | {"status": "failed", "error_code": unfit["code"], "error_message": unfit["message"]}
    if child is not None:
        return found | {
            "operation_id": child.id, "status": child.status, "error_code": child.error_code,
            "error_message": child.error_message,
        }  # fmt: skip
    return found
