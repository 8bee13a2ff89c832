"""EventService: an operation's progress as a stream that can be taken up again, at any process of the service."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta

from app.db.base import now
from app.db.models import SseTicket
from app.db.repositories.operations import ACTIVE, OperationRepository
from app.db.repositories.security import TicketRepository
from app.db.session import Database
from app.errors import Unauthenticated
from app.security.tokens import hash_token
from app.services.operations import view
from app.services.unit import Unit

_TICK_SECONDS = 0.5
_QUIET_SECONDS = 15
_RESUMED_FOR = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Subscription:
    """`last`: what the client has seen, as the id of an event says. `resume`: a secret in each id, which opens the
    same stream again: a browser sends the id of the last event when it connects again, and no other header."""

    operation_id: int
    last: str = ""
    resume: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """`name` None: nothing has changed for a while; the connection is kept open."""

    id: str
    name: str | None
    data: str


class EventService:
    """Events are states, not changes: whoever connects gets the present one, unless it is the last that they saw. So
    nothing is kept for those who are away, and every process can go on with any stream."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_ticket(self, unit: Unit, operation_id: int, ticket: str, last_event_id: str | None) -> Subscription:
        """A one-time ticket opens a stream; after that, the id of its last event does. Raises Unauthenticated."""
        repository = TicketRepository(unit.session)
        last, _, resume = (last_event_id or "").partition(".")
        if resume and await repository.resumes(hash_token(resume), now()) == operation_id:
            return Subscription(operation_id, last, resume)
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
        return Subscription(operation_id, "", resume)

    async def stream(self, subscription: Subscription) -> AsyncGenerator[Event, None]:
        """Until the operation ends, or is not there any more. No session is held between two events."""
        last, spoken = subscription.last, time.monotonic()
        suffix = "" if subscription.resume is None else f".{subscription.resume}"
        while True:
            async with self._database.transaction() as session:
                operation = await OperationRepository(session).get(subscription.operation_id)
            if operation is None:
                return
            data = json.dumps(view(operation))
            version = hashlib.sha256(data.encode()).hexdigest()[:16]
            ended = operation.status not in ACTIVE
            if version != last or ended:  # the end is said again: a client that missed it would wait for ever
                yield Event(version + suffix, "ended" if ended else "progress", data)
                last, spoken = version, time.monotonic()
            elif time.monotonic() - spoken > _QUIET_SECONDS:
                yield Event("", None, "")
                spoken = time.monotonic()
            if ended:
                return
            await asyncio.sleep(_TICK_SECONDS)
