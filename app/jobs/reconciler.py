"""Compares what was handed over with what the engine knows and does: nothing stays behind until a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from app.db.models import Operation
from app.db.repositories.dispatch import DispatchRepository
from app.db.repositories.operations import ACTIVE, OperationRepository
from app.db.session import Database
from app.jobs.background import BackgroundTask
from app.services.turns import OPERATIONS

log = logging.getLogger(__name__)
_LOOKED_UP = 500
_PAUSE = 1.0
#: An operation that was just taken from its queue is not begun yet, for a moment.
_STRANDED_SECONDS = 5.0


class Queues(Protocol):
    """The engine, as the reconciler sees it."""

    async def ended(self, uids: list[str]) -> dict[str, bool]:
        """Of the operations that it knows, whether it has done with them."""

    async def left(self) -> dict[str, str]:
        """What runs in this process' name, and is not being run: uid and type."""

    async def enqueue(self, uid: str, type: str, queue: str) -> None:
        """Idempotent."""

    async def requeue(self, uid: str) -> None:
        """Put what is `left` back into its queue."""

    async def forget_one(self, uid: str) -> None: ...


class Reconciler(BackgroundTask):
    """Every process has one. All of it can be done twice, and by several: an operation belongs to whoever claimed it
    last. `waiting`: the types of operations that must not be begun now."""

    def __init__(
        self,
        database: Database,
        queues: Queues,
        seconds: float,
        waiting: Callable[[], Awaitable[frozenset[str]]],
    ) -> None:
        self._database = database
        self._queues = queues
        self._seconds = seconds
        self._waiting = waiting
        self._woken = asyncio.Event()
        self._due: dict[str, float] = {}

    def wake(self) -> None:
        """Something may not have been queued."""
        self._woken.set()

    def given_back(self, uid: str, seconds: float) -> None:
        """This process has stopped to run an operation that has not ended; it is queued again after `seconds`."""
        self._due[uid] = time.monotonic() + seconds
        self.wake()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                again = await self.reconcile()
            except Exception as error:  # noqa: BLE001,RUF100  the next one may succeed
                log.warning("Operations could not be compared with the queue: %s", type(error).__name__)
                again = True
            if not again:
                try:
                    async with asyncio.timeout(self._seconds):
                        await self._woken.wait()
                except TimeoutError:
                    pass
            await asyncio.sleep(_PAUSE)

    async def reconcile(self) -> bool:
        """Whether something is left to be looked at soon."""
        waits = await self._left()
        async with self._database.transaction() as session:
            active = await OperationRepository(session).handed_over()
        for start in range(0, len(active), _LOOKED_UP):
            some = {operation.uid: operation for operation in active[start : start + _LOOKED_UP]}
            known = await self._queues.ended(list(some))
            for uid in set(some) - set(known):
                log.warning("Operation %s was handed over and never queued; it is now", uid)
                await self._enqueue(some[uid])
            for uid in (uid for uid, ended in known.items() if ended):
                await self._begin_anew(uid)
        return waits

    async def _left(self) -> bool:
        left = await self._queues.left()
        moment, waiting = time.monotonic(), await self._waiting()
        self._keep_due(left, moment)
        for uid, type in left.items():
            if self._due[uid] <= moment and type not in waiting:
                log.warning("Operation %s runs nowhere; it is queued again", uid)
                await self._queues.requeue(uid)
                del self._due[uid]
        return bool(self._due)

    def _keep_due(self, left: Iterable[str], moment: float) -> None:
        """What was given back and is not left yet, is still on its way out."""
        for uid in left:
            self._due.setdefault(uid, moment + _STRANDED_SECONDS)
        for uid in [uid for uid, due in self._due.items() if uid not in left and due < moment - _STRANDED_SECONDS]:
            del self._due[uid]

    async def _enqueue(self, operation: Operation) -> None:
        await self._queues.enqueue(operation.uid, operation.type, operation.queue or OPERATIONS)

    async def _begin_anew(self, uid: str) -> None:
        """The engine has done with an operation that has not ended: it could not record that, or gave it up."""
        async with self._database.transaction() as session:
            await DispatchRepository(session).lock()
            operation = await OperationRepository(session).by_uid(uid)
            if operation is None or operation.status not in ACTIVE:  # it has ended since it was looked at
                return
            if (await self._queues.ended([uid])).get(uid):  # and not another process was here before us
                log.error("Operation %s has not ended, and nobody runs it; it begins anew", uid)
                await self._queues.forget_one(uid)
                await self._enqueue(operation)
