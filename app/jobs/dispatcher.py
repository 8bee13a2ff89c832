"""Hands operations to the engine when it is their turn. Every process has one; the database decides who does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from app.db.repositories.dispatch import LOOKED_AT, DispatchRepository, Full
from app.db.session import Database
from app.jobs.background import BackgroundTask
from app.services.turns import Active, Limits, Slots, Turns, Waiting

log = logging.getLogger(__name__)
Enqueue = Callable[[str, str, str], Awaitable[None]]


class Dispatcher(BackgroundTask):
    """`own`: what this process takes, where it is the only one; None: what the leases say. `parents`: types of
    operations that start others. `enqueue` gives the engine an operation: uid, type, queue; idempotent. `held`: types
    of operations that must not be begun now."""

    def __init__(
        self,
        database: Database,
        own: Slots | None,
        parents: set[str],
        tenant_limit: int | None,
        seconds: float,
        enqueue: Enqueue,
        held: Callable[[], Awaitable[frozenset[str]]],
    ) -> None:
        self._database = database
        self._own = own
        self._parents = parents
        self._tenant_limit = tenant_limit
        self._seconds = seconds
        self._enqueue = enqueue
        self._held = held
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was recorded, or has ended."""
        self._woken.set()

    async def _run(self) -> None:
        """What other processes record is found within `seconds`, at the latest."""
        while True:
            self._woken.clear()
            try:
                await self.dispatch()
            except Exception as error:  # noqa: BLE001,RUF100  the next one may succeed; nothing was handed over
                log.warning("Operations could not be handed to the queue: %s", type(error).__name__, exc_info=True)
                await asyncio.sleep(1)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def dispatch(self) -> None:
        """Committed first, then queued: what a crash leaves in between, the engine finds (`reconcile`)."""
        async with self._database.transaction() as session:
            if not await DispatchRepository(session).any_waiting():
                return
        held = await self._held()
        async with self._database.transaction() as session:
            repository = DispatchRepository(session)
            await repository.lock()
            handed = await self._choose(repository, held)
        for row, queue in handed:
            await self._enqueue(row.uid, row.type, queue)

    async def _choose(self, repository: DispatchRepository, held: frozenset[str]) -> list[tuple[Any, str]]:
        slots = [Slots(**row) for row in await repository.slots()] if self._own is None else [self._own]
        destinations, tenants = await repository.limits()
        active = [Active(row.queue, row.user_id, row.domain_uid, tuple(row.destinations)) for row in
                  await repository.active()]  # fmt: skip
        turns = Turns(slots, Limits(destinations, tenants, self._tenant_limit), active)
        handed: list[tuple[Any, str]] = []
        while turns.servers:  # once more when those that were looked at have filled up a tenant or a destination
            rows = await repository.waiting(_full(turns), frozenset(self._parents), held)
            known = {row.id: row for row in rows}
            chosen = turns.choose([self._waiting(row) for row in rows])
            handed += [(known[one.id], queue) for one, queue in chosen if await repository.hand_over(one.id, queue)]
            if not chosen or len(rows) < LOOKED_AT:
                break
        return handed

    def _waiting(self, row: Any) -> Waiting:
        return Waiting(
            row.id,
            row.user_id,
            row.domain_uid,
            tuple(row.destinations),
            row.priority,
            row.server,
            row.type in self._parents,
        )


def _full(turns: Turns) -> Full:
    kinds = (True, False)
    return Full(
        turns.servers,
        turns.busy_domains,
        {(server, kind): turns.full_tenants(server, waited_for=kind) for server in turns.servers for kind in kinds},
        {kind: turns.full_destinations(waited_for=kind) for kind in kinds},
    )
