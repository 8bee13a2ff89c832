"""Which process may run operations: a lease that is renewed, and what is done when one runs out."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from app.db.repositories.executors import ExecutorRepository
from app.db.session import Database
from app.jobs.background import kept

log = logging.getLogger(__name__)
_SWEEP_SECONDS = 2.0


def new_executor_id() -> str:
    """Unique for each start of a process: two with one id would run each other's operations."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(6)}"


class Leases:
    """`slots`: what this process takes. `fenced` is called once, when it may have lost what it runs: it must stop,
    and publish nothing. `running`: in whose name operations run. `recover` hands what these processes ran to others;
    it may be called with the same ones again."""

    def __init__(
        self,
        database: Database,
        executor_id: str,
        seconds: float,
        slots: dict[str, Any],
        running: Callable[[], Awaitable[set[str]]],
        recover: Callable[[list[str]], Awaitable[None]],
        fenced: Callable[[], None],
    ) -> None:
        self._database = database
        self._executor_id = executor_id
        self._seconds = seconds
        self._slots = slots
        self._running = running
        self._recover = recover
        self._fenced = fenced
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Before this process takes its first operation."""
        async with self._database.transaction() as session:
            await ExecutorRepository(session).begin(self._executor_id, self._seconds, **self._slots)

    def keep(self) -> None:
        renewing = asyncio.create_task(self._renew())
        renewing.add_done_callback(self._not_renewed)
        self._tasks = [renewing, asyncio.create_task(kept(self._sweep, "Taking over from dead processes"))]

    def _not_renewed(self, renewing: asyncio.Task[None]) -> None:
        """However it ended, unless it was told to: nobody renews the lease any more."""
        if renewing.cancelling():
            return
        if not renewing.cancelled() and renewing.exception() is not None:
            log.critical("Renewing the lease of this process has failed", exc_info=renewing.exception())
        self._fenced()

    async def end(self) -> None:
        """Hand over: others need not wait until the lease runs out."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(Exception):  # the lease runs out by itself
            async with asyncio.timeout(5), self._database.transaction() as session:
                await ExecutorRepository(session).end(self._executor_id)

    async def _renew(self) -> None:
        """Until it has run out. By our own clock too: when nobody can be asked, it has after its time."""
        deadline = time.monotonic() + self._seconds
        held: bool | None = True
        while True:
            await asyncio.sleep(self._seconds / 3 if held else min(1.0, self._seconds / 10))
            asked = time.monotonic()
            held = None
            try:
                async with asyncio.timeout(self._seconds / 3), self._database.transaction() as session:
                    held = await ExecutorRepository(session).renew(self._executor_id, self._seconds)
            except Exception as error:  # noqa: BLE001,RUF100  whatever is wrong, we do not hold it any longer than told
                log.warning("The lease of this process could not be renewed: %s", type(error).__name__)
            if held:
                deadline = asked + self._seconds
            elif held is False or time.monotonic() >= deadline:
                return

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._seconds / 3))
            try:
                await self.take_over()
            except Exception:  # noqa: BLE001,RUF100  the next one may succeed
                log.warning("Looking for operations of dead processes failed", exc_info=True)

    async def take_over(self) -> None:
        """Hand over what runs in the name of processes without a lease. Who runs is asked first: a process that has
        begun since then has its lease already."""
        running = await self._running()
        async with self._database.transaction() as session:
            repository = ExecutorRepository(session)
            dead = sorted(running - await repository.live())
            await repository.forget_expired()
        if dead:
            log.warning("Taking over from %s", ", ".join(dead))
            await self._recover(dead)
