"""AuditService: who did what, in a chain that shows what was removed or edited."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import now
from app.db.models import AuditEvent, AuditHead
from app.db.repositories.audit import AuditRepository
from app.db.repositories.base import Page, PageRequest
from app.db.session import Database
from app.errors import AuditBroken
from app.security.tokens import Principal
from app.services.unit import Unit

_BATCH = 1000
_FIELDS = (
    "number", "at", "actor", "token_id", "user_id", "address", "request_id", "action", "target", "outcome", "detail",
    "previous",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verified:
    """`unchained`: events from before there was a chain."""

    events: int
    head: str


class AuditService:
    """Each event's hash is an HMAC over the event and the hash before it, and the head is sealed: who can write to
    the database but has no key can neither edit, add, reorder nor remove one without it showing. Whoever puts back an
    older state of the whole database removes its end unseen: keep the head that `verify-audit` prints somewhere else.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    async def record(self, session: AsyncSession, **fields: Any) -> AuditEvent:
        """In the transaction of `session`; others that record wait until that has ended, so let it be short."""
        repository = AuditRepository(session)
        head = await repository.next()
        event = AuditEvent(at=now(), number=head.number, previous=head.hash, **fields)
        event.hash = self._hash(event)
        head.hash = event.hash
        head.seal = self._seal(head)
        repository.add(event)
        await repository.flush()
        return event

    def _hash(self, event: AuditEvent) -> str:
        values = {name: getattr(event, name) for name in _FIELDS}
        values["at"] = event.at.isoformat()
        return self._mac(json.dumps(values, sort_keys=True, default=str))

    def _seal(self, head: AuditHead) -> str:
        return self._mac(json.dumps([head.number, head.hash, head.first_number, head.first_previous]))

    def _mac(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    async def page(
        self, unit: Unit, principal: Principal, request: PageRequest, filters: dict[str, Any]
    ) -> Page[AuditEvent]:
        self._require(principal)
        return await AuditRepository(unit.session).page(request, filters)

    @staticmethod
    def _require(principal: Principal) -> None:
        principal.require("audit:read")
        principal.require_operator("The audit trail")

    async def export(
        self, principal: Principal, database: Database, filters: dict[str, Any]
    ) -> AsyncGenerator[AuditEvent, None]:
        """All of them, the oldest first; no session is held between two batches. Raises Forbidden at once."""
        self._require(principal)
        return self._exported(database, filters)

    @staticmethod
    async def _exported(database: Database, filters: dict[str, Any]) -> AsyncGenerator[AuditEvent, None]:
        last = 0
        while True:
            async with database.transaction() as session:
                found = await AuditRepository(session).after(last, _BATCH, filters)
            for event in found:
                yield event
            if len(found) < _BATCH:
                return
            last = found[-1].id

    async def verify(self, database: Database) -> Verified:
        """Raises AuditBroken, which names the first event that is not as it was written."""
        async with database.transaction() as session:
            head = await AuditRepository(session).head()
            count = await AuditRepository(session).count()
        if head is None:
            if count:
                raise AuditBroken("The head of the audit trail was removed")
            return Verified(0, "")
        if not hmac.compare_digest(head.seal, self._seal(head)):
            raise AuditBroken("The head of the audit trail was edited")
        number, previous = head.first_number - 1, head.first_previous
        while number < head.number:
            async with database.transaction() as session:
                found = await AuditRepository(session).chained(number, _BATCH)
            for event in found:
                if event.number is None or event.number > head.number:  # written since then
                    break
                if event.number != number + 1:
                    raise AuditBroken(f"Audit event {number + 1} was removed")
                if event.previous != previous or not hmac.compare_digest(event.hash or "", self._hash(event)):
                    raise AuditBroken(f"Audit event {event.number} was edited")
                number, previous = event.number, event.hash or ""
            if not found or (found[-1].number or 0) > head.number:
                break
        if number != head.number or previous != head.hash:
            raise AuditBroken(f"Audit event {number + 1} was removed")
        return Verified(head.number - head.first_number + 1, head.hash)

    async def trim(self, session: AsyncSession, before: datetime) -> None:
        """Remove what is older; the head says from then on where the chain begins."""
        repository = AuditRepository(session)
        head = await repository.head()
        oldest = [] if head is None else await repository.chained(head.first_number - 1, 1)
        if not oldest or oldest[0].at >= before:  # nearly always: the rest would look at every event
            return
        last = await repository.last_before(before)
        if last is None or last.number is None:
            return
        await self.record(
            session,
            actor="service",
            action="audit.trim",
            target=f"events until {last.number}",
            outcome="completed",
            detail={"before": before.isoformat()},
        )
        head = await repository.head()
        assert head is not None
        head.first_number, head.first_previous = last.number + 1, last.hash or ""
        head.seal = self._seal(head)
        await repository.remove_through(last.number)
        await repository.flush()
