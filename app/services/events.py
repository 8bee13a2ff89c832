"""EventService: an operation's progress as a stream that can be taken up again, at any process of the service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from app.db.base import now
from app.db.models import SseTicket
from app.db.repositories.operations import ACTIVE, OperationRepository
from app.db.repositories.security import TicketRepository
from app.db.session import Database
from app.errors import TooManyStreams, Unauthenticated
from app.security.tokens import hash_token
from app.services.operations import view
from app.services.unit import Unit
from app.settings import ServerSettings

log = logging.getLogger(__name__)
_TICK_SECONDS = 0.5
_QUIET_SECONDS = 15
_RESUMED_FOR = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Subscription:
    """`owner`: whose streams it is counted among. `last`: what the client has seen, as the id of an event says.
    `resume`: a secret in each id, which opens the same stream again: a browser sends the id of the last event when it
    connects again, and no other header."""

    operation_id: int
    owner: str
    last: str = ""
    resume: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """`name` None: nothing has changed for a while; the connection is kept open."""

    id: str
    name: str | None
    data: str


@dataclass(frozen=True, slots=True)
class _State:
    version: str
    data: str
    ended: bool


class _Watch:
    """Looks at one operation for all who listen, while anybody does; each takes the newest state when they can, so
    nothing is kept for those who are slow."""

    def __init__(self, database: Database, operation_id: int) -> None:
        self._database = database
        self._operation_id = operation_id
        self._changed = asyncio.Event()
        self.state: _State | None = None
        self.listeners = 0
        self.over = False
        self._task = asyncio.create_task(self._look())
        self._task.add_done_callback(self._finish)

    def stop(self) -> None:
        self._task.cancel()

    async def change(self, seconds: float) -> None:
        """Wait until there is something new, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _look(self) -> None:
        """Until the operation ends, or is not there any more."""
        while True:
            async with self._database.transaction() as session:
                operation = await OperationRepository(session).get(self._operation_id)
            if operation is None:
                return
            data = json.dumps(view(operation))
            version = hashlib.sha256(data.encode()).hexdigest()[:16]
            ended = operation.status not in ACTIVE
            if self.state is None or version != self.state.version or ended:
                self.state = _State(version, data, ended)
                self._tell()
            if ended:
                return
            await asyncio.sleep(_TICK_SECONDS)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _finish(self, task: asyncio.Task[None]) -> None:
        self.over = True
        self._tell()
        if not task.cancelled() and (error := task.exception()) is not None:  # who listens connects again
            log.warning("Operation %s cannot be looked at: %s", self._operation_id, type(error).__name__)


class EventService:
    """Events are states, not changes: whoever connects gets the present one, unless it is the last that they saw. So
    nothing is kept for those who are away, and every process can go on with any stream."""

    def __init__(self, database: Database, settings: ServerSettings) -> None:
        self._database = database
        self._most = settings.streams
        self._most_of_one = settings.streams_per_token
        self._open: Counter[str] = Counter()
        self._watches: dict[int, _Watch] = {}

    async def by_ticket(self, unit: Unit, operation_id: int, ticket: str, last_event_id: str | None) -> Subscription:
        """A one-time ticket opens a stream; after that, the id of its last event does. Raises Unauthenticated."""
        repository = TicketRepository(unit.session)
        last, _, resume = (last_event_id or "").partition(".")
        if resume and await repository.resumes(hash_token(resume), now()) == operation_id:
            return Subscription(operation_id, await self._owner(unit, operation_id), last, resume)
        if await repository.take(hash_token(ticket), now()) != operation_id:
            raise Unauthenticated("This ticket is unknown, used or expired")
        resume = secrets.token_urlsafe(24)
        repository.add(
            SseTicket(
                ticket_sha256=hash_token(resume),
                operation_id=operation_id,
                expires_at=now() + _RESUMED_FOR,
                resumes=True,
            )
        )
        return Subscription(operation_id, await self._owner(unit, operation_id), "", resume)

    @staticmethod
    async def _owner(unit: Unit, operation_id: int) -> str:
        """A ticket is nobody's: its streams count among those of the operation's user."""
        operation = await OperationRepository(unit.session).get(operation_id)
        return f"tickets:{operation.user_id if operation is not None else None}"

    @contextmanager
    def seat(self, owner: str) -> Iterator[None]:
        """For the time of one stream. Raises TooManyStreams."""
        if self._open[owner] >= self._most_of_one:
            raise TooManyStreams(
                f"This token has {self._most_of_one} event streams open: close some, or ask now and then"
            )
        if self._open.total() >= self._most:
            raise TooManyStreams(f"All {self._most} event streams are in use: ask now and then instead")
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    async def stream(self, subscription: Subscription) -> AsyncGenerator[Event, None]:
        """Until the operation ends, or is not there any more. No session is held between two events."""
        last, spoken = subscription.last, time.monotonic()
        suffix = "" if subscription.resume is None else f".{subscription.resume}"
        watch = self._watch(subscription.operation_id)
        try:
            while True:
                state = watch.state
                if state is not None and (state.version != last or state.ended):
                    # The end is said again: a client that missed it would wait for ever.
                    yield Event(state.version + suffix, "ended" if state.ended else "progress", state.data)
                    last, spoken = state.version, time.monotonic()
                    if state.ended:
                        return
                    continue
                if watch.over:
                    return
                if (left := spoken + _QUIET_SECONDS - time.monotonic()) <= 0:
                    yield Event("", None, "")
                    spoken = time.monotonic()
                    continue
                await watch.change(left)
        finally:
            watch.listeners -= 1
            if not watch.listeners:
                watch.stop()
                if self._watches.get(subscription.operation_id) is watch:
                    del self._watches[subscription.operation_id]

    def _watch(self, operation_id: int) -> _Watch:
        watch = self._watches.get(operation_id)
        if watch is None or watch.over:
            watch = self._watches[operation_id] = _Watch(self._database, operation_id)
        watch.listeners += 1
        return watch
