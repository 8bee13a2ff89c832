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

from app.db.session import Database, is_outage
from app.jobs.context import Result
from app.jobs.dispatcher import Dispatcher
from app.jobs.leases import Leases, new_executor_id
from app.jobs.reconciler import Reconciler
from app.jobs.runner import OperationRunner
from app.services.turns import OPERATIONS, PARENTS, URGENT, Slots, lane
from app.settings import JobSettings

log = logging.getLogger(__name__)
_VERSION = ".v1"
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_FORGOTTEN_AT_ONCE = 500
_AFTER_ERROR_SECONDS = 30.0


class JobEngine:
    """Workflow id = the operation's uid: an operation runs once, and goes on after a restart. The dispatcher decides
    when it is handed to one of the engine's queues, which workers take it from.

    `replicated`: several processes share the database; each has a lease, and takes over from those without one.
    `waiting`: the types of operations that must not be begun now."""

    def __init__(
        self,
        url: str,
        database: Database,
        settings: JobSettings,
        waiting: Callable[[], Awaitable[frozenset[str]]],
        *,
        replicated: bool,
    ) -> None:
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
        self._running: dict[asyncio.Task[Any], str] = {}
        self._waiting = waiting
        self._reconciler = Reconciler(database, self, settings.reconcile_seconds, waiting)

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
            # How often it is begun is bounded by the operation's own attempts.
            @DBOS.workflow(name=f"{name}{_VERSION}", max_recovery_attempts=None)
            async def workflow(uid: str) -> None:
                if self._stopping:  # taken from the queue at the last moment: another process will have it
                    raise asyncio.CancelledError
                task = asyncio.current_task()
                if task is not None:
                    self._running[task] = uid
                    task.add_done_callback(lambda task: self._running.pop(task, None))
                try:
                    await runner.run(uid, self._step)
                except Exception as error:
                    if is_outage(error):
                        log.warning("Operation %s waits for the database: %s", uid, error.__class__.__name__)
                    else:
                        log.exception("Operation %s could not be ended; it is tried again", uid)
                    self._reconciler.given_back(uid, 1 if is_outage(error) else _AFTER_ERROR_SECONDS)
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
        self._reconciler.start()
        own = None if self._leases is not None else self._slots
        self._dispatcher = Dispatcher(
            self._database,
            own,
            parents,
            tenant_operations,
            self._settings.dispatch_seconds,
            self._hand_over,
            self._waiting,
        )
        self._dispatcher.start()
        if self._leases is not None:
            self._leases.keep()

    def _pause(self, queue: str) -> float:
        """Between two looks at a queue: four transactions each, in every process."""
        if queue.startswith(PARENTS):
            return 1.0
        return self._settings.polling_seconds or (0.2 if self._leases is None else 0.5)

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

        outages: list[Exception] = []

        async def run() -> Result:
            try:
                return await work()
            except Exception as error:
                if not is_outage(error):
                    raise
                outages.append(error)
                raise asyncio.CancelledError from error  # an error would be recorded as the step's result, for ever

        try:
            return await DBOS.run_step_async({"name": name}, run)
        except asyncio.CancelledError:
            if outages:
                raise outages[0] from None
            raise

    async def wake(self) -> None:
        """An operation was recorded: it begins when it is its turn."""
        if self._dispatcher is not None:
            self._dispatcher.wake()

    async def _hand_over(self, uid: str, type: str, queue: str) -> None:
        """What fails here was recorded as handed over: it is queued as soon as that is possible."""
        try:
            await self.enqueue(uid, type, queue)
        except Exception as error:  # noqa: BLE001,RUF100  whatever is wrong with the engine's database
            log.warning("Operation %s could not be queued yet: %s", uid, error.__class__.__name__)
            self._reconciler.wake()

    async def enqueue(self, uid: str, type: str, queue: str) -> None:
        """Idempotent: an operation that the engine knows is not queued again."""
        from dbos import DBOS, SetWorkflowID

        workflow: Any = self._workflows[type]
        with SetWorkflowID(uid):
            await DBOS.enqueue_workflow_async(queue, workflow, uid)

    async def ended(self, uids: list[str]) -> dict[str, bool]:
        """See Queues."""
        from dbos import DBOS

        found = await DBOS.list_workflows_async(workflow_ids=uids, load_input=False, load_output=False)
        return {workflow.workflow_id: workflow.status in _ENDED for workflow in found}

    async def left(self) -> dict[str, str]:
        """See Queues."""
        from dbos import DBOS
        from dbos._dbos import _get_dbos_instance

        if self._stopping:
            return {}
        found = await DBOS.list_workflows_async(
            status="PENDING", executor_id=self._executor_id, load_input=False, load_output=False
        )
        running = {*self._running.values(), *_get_dbos_instance()._active_workflows_set.activeList()}
        return {
            workflow.workflow_id: workflow.name.removesuffix(_VERSION)
            for workflow in found
            if workflow.workflow_id not in running
        }

    async def requeue(self, uid: str) -> None:
        """See Queues."""
        from dbos._dbos import _get_dbos_instance

        database = _get_dbos_instance()._sys_db
        await asyncio.to_thread(database.reenqueue_for_recovery, uid, [self._executor_id], OPERATIONS)

    async def forget_one(self, uid: str) -> None:
        """See Queues."""
        from dbos import DBOS

        await DBOS.delete_workflows_async([uid])

    async def forget(self, before: datetime) -> int:
        """Remove some of the engine's rows of what ended before then; how many."""
        from dbos import DBOS

        found = await DBOS.list_workflows_async(
            status=list(_ENDED),
            completed_before=before.isoformat(),
            limit=_FORGOTTEN_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        if found:
            await DBOS.delete_workflows_async([workflow.workflow_id for workflow in found])
        return len(found)

    async def stop(self, seconds: float = 10) -> None:
        """Stop what runs without ending it: it stays pending, and the next start or another process resumes it. What
        takes longer than `seconds` to clean up, as at a destination that hangs, is left as a crash would leave it."""
        from dbos import DBOS

        self._stopping = True
        if self._dispatcher is not None:
            await self._dispatcher.stop()
        await self._reconciler.stop()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        if self._leases is not None and not self._running:
            await self._leases.end()
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=0)


def _slots(settings: JobSettings) -> Slots:
    """What this process takes; parents only wait, so workers of a server leave them to the others."""
    if settings.role == "api":
        return Slots(settings.server, 0, 0, 0)
    parents = settings.parents if settings.server is None else 0
    return Slots(settings.server, settings.concurrency, settings.urgent, parents)
