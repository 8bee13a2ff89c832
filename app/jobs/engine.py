"""The durable engine: DBOS behind two methods. Nothing else in this service knows it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from app.db.repositories.operations import OperationRepository
from app.db.session import Database, is_outage
from app.jobs.context import Result
from app.jobs.dispatcher import Dispatcher
from app.jobs.leases import Leases, new_executor_id
from app.jobs.runner import OperationRunner
from app.services.turns import OPERATIONS, PARENTS, URGENT, Slots, lane
from app.settings import JobSettings

log = logging.getLogger(__name__)
_LOOKED_UP = 500


class JobEngine:
    """Workflow id = the operation's uid: an operation runs once, and goes on after a restart. The dispatcher decides
    when it is handed to one of the engine's queues, which workers take it from.

    `replicated`: several processes share the database; each has a lease, and takes over from those without one."""

    def __init__(self, url: str, database: Database, settings: JobSettings, *, replicated: bool) -> None:
        self._url = url
        self._database = database
        self._settings = settings
        self._executor_id = new_executor_id() if replicated else "embedded"
        self._slots = _slots(settings)
        self._leases: Leases | None = None
        if replicated:
            slots = asdict(self._slots)
            slots.pop("workers")
            self._leases = Leases(
                database, self._executor_id, settings.lease_seconds, slots, self._pending, self._recover, self._fenced
            )
        self._stopping = False
        self._dispatcher: Dispatcher | None = None
        self._workflows: dict[str, Callable[[str], Awaitable[None]]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, runner: OperationRunner, parents: set[str], tenant_operations: int | None) -> None:
        """Call on the event loop's thread: async steps then run on this loop. `parents`: types of operations that
        start others. `tenant_operations`: of each tenant at once, unless its quota says otherwise."""
        from dbos import DBOS, DBOSPortableJSONSerializer

        DBOS(
            config={
                "name": "liberu-backup",
                "system_database_url": self._url,
                "executor_id": self._executor_id,
                "application_version": "1",
                "serializer": DBOSPortableJSONSerializer(),
                "enable_otlp": False,
                "log_level": "WARNING",
            }
        )

        def register(name: str) -> Callable[[str], Awaitable[None]]:
            @DBOS.workflow(name=f"{name}.v1")
            async def workflow(uid: str) -> None:
                if self._stopping:  # taken from the queue at the last moment: another process will have it
                    raise asyncio.CancelledError
                task = asyncio.current_task()
                if task is not None:
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                try:
                    await runner.run(uid, self._step)
                except Exception as error:
                    if not is_outage(error):
                        raise
                    self._later.add(later := asyncio.create_task(self._again(uid)))
                    later.add_done_callback(self._later.discard)
                    raise asyncio.CancelledError from error  # it stays pending
                finally:
                    await self.wake()

            return workflow

        self._workflows = {name: register(name) for name in runner.types}
        if self._leases is not None:
            await self._leases.begin()
        sizes = {
            lane(OPERATIONS, self._slots.server): self._slots.operations,
            lane(URGENT, self._slots.server): self._slots.urgent,
            lane(PARENTS, self._slots.server): self._slots.parents,
        }
        sizes = {name: size for name, size in sizes.items() if size > 0}
        DBOS.listen_queues(list(sizes))
        DBOS.launch()
        for name, size in sizes.items():
            await DBOS.register_queue_async(
                name,
                worker_concurrency=size,
                polling_interval_sec=self._pause(name),
                on_conflict="always_update",
            )
        await self._reconcile()
        own = None if self._leases is not None else self._slots
        self._dispatcher = Dispatcher(
            self._database, own, parents, tenant_operations, self._settings.dispatch_seconds, self._enqueue
        )
        self._dispatcher.start()
        if self._leases is not None:
            self._leases.keep()
            self._keeper = asyncio.create_task(self._keep_reconciled())

    def _pause(self, queue: str) -> float:
        """Between two looks at a queue: four transactions each, in every process."""
        if queue.startswith(PARENTS):
            return 1.0
        return self._settings.polling_seconds or (0.2 if self._leases is None else 0.5)

    async def _keep_reconciled(self) -> None:
        """Another process may have died between its commit and its queueing, and never start again."""
        while True:
            await asyncio.sleep(self._settings.reconcile_seconds)
            try:
                await self._reconcile()
            except Exception as error:  # noqa: BLE001,RUF100  the next one may succeed
                log.warning("Operations could not be compared with the queue: %s", type(error).__name__)

    @staticmethod
    async def _pending() -> set[str]:
        """The processes in whose name operations run."""
        from dbos import DBOS

        found = await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)
        return {workflow.executor_id for workflow in found if workflow.executor_id}

    @staticmethod
    async def _recover(executor_ids: list[str]) -> None:
        from dbos import DBOS

        await asyncio.to_thread(DBOS._recover_pending_workflows, executor_ids)

    async def _again(self, uid: str) -> None:
        """Queue an operation anew that the database's absence has ended, once it is there."""
        while not self._stopping:
            await asyncio.sleep(1)
            try:
                await self._database.ping()
                await asyncio.to_thread(self._requeue, uid)
            except Exception as error:  # noqa: BLE001,RUF100  it is not there yet
                log.warning("Operation %s waits for the database: %s", uid, type(error).__name__)
            else:
                return

    def _requeue(self, uid: str) -> None:
        from dbos._dbos import _get_dbos_instance

        _get_dbos_instance()._sys_db.reenqueue_for_recovery(uid, [self._executor_id], OPERATIONS)

    def _fenced(self) -> None:
        """Others may run already what this process runs: end it all, and the process with it."""
        log.critical("The lease of this process has run out: it stops, so that nothing is done twice")
        self._stopping = True
        for task in list(self._running):
            task.cancel()
        os.kill(os.getpid(), signal.SIGTERM)

    @staticmethod
    async def _step(name: str, work: Callable[[], Awaitable[Result]]) -> Result:
        from dbos import DBOS

        async def run() -> Result:
            return await work()

        return await DBOS.run_step_async({"name": name}, run)

    async def wake(self) -> None:
        """An operation was recorded: it begins when it is its turn."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    async def _enqueue(self, operation_uid: str, operation_type: str, queue: str) -> None:
        """Idempotent: an operation that the engine knows is not queued again."""
        from dbos import DBOS, SetWorkflowID

        workflow: Any = self._workflows[operation_type]
        with SetWorkflowID(operation_uid):
            await DBOS.enqueue_workflow_async(queue, workflow, operation_uid)

    async def _reconcile(self) -> None:
        """Queue what was handed over but never queued: the process may have died in between."""
        from dbos import DBOS

        async with self._database.transaction() as session:
            active = await OperationRepository(session).handed_over()
        for start in range(0, len(active), _LOOKED_UP):
            some = {operation.uid: operation for operation in active[start : start + _LOOKED_UP]}
            known = await DBOS.list_workflows_async(workflow_ids=list(some), load_input=False, load_output=False)
            for uid in set(some) - {workflow.workflow_id for workflow in known}:
                await self._enqueue(uid, some[uid].type, some[uid].queue or OPERATIONS)

    async def forget(self, before: datetime) -> int:
        """Remove some of the engine's rows of what ended before then; how many."""
        from dbos import DBOS

        found = await DBOS.list_workflows_async(
            status=["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"],
            completed_before=before.isoformat(),
            limit=_LOOKED_UP,
            load_input=False,
            load_output=False,
        )
        if found:
            await DBOS.delete_workflows_async([workflow.workflow_id for workflow in found])
        return len(found)

    async def stop(self) -> None:
        """Stop what runs without ending it: it stays pending, and the next start or another process resumes it."""
        from dbos import DBOS

        self._stopping = True
        if self._dispatcher is not None:
            await self._dispatcher.stop()
        keeper = [] if self._keeper is None else [self._keeper]
        for task in [*self._running, *self._later, *keeper]:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=30)
        if self._leases is not None and not self._running:
            await self._leases.end()
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=0)


def _slots(settings: JobSettings) -> Slots:
    """What this process takes; parents only wait, so workers of a server leave them to the others."""
    if settings.role == "api":
        return Slots(settings.server, 0, 0, 0)
    parents = settings.parents if settings.server is None else 0
    return Slots(settings.server, settings.concurrency, settings.urgent, parents)
