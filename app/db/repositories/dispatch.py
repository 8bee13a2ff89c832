"""Queries of the dispatcher: what runs, what waits, and how much the live workers take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, select, text, update

from app.db.models import Destination, ExecutorLease, Operation, TenantQuota
from app.db.repositories.base import Repository
from app.db.repositories.operations import ACTIVE

_LOCK = 0x1BACC0C
LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Full:
    """What can take no more. `servers`: those that can. `tenants`: by server and by whether it is waited for, who has
    all they may have there; `destinations`: the same, by whether it is waited for."""

    servers: Sequence[str | None]
    domains: set[str]
    tenants: dict[tuple[str | None, bool], set[int]]
    destinations: dict[bool, set[int]]


class DispatchRepository(Repository):
    async def lock(self) -> None:
        """One process at a time decides, until the transaction ends. With SQLite there is only one."""
        if self._session.get_bind().dialect.name == "postgresql":
            await self._session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})

    async def any_waiting(self) -> bool:
        query = select(Operation.id).where(Operation.status == "pending", Operation.queue.is_(None)).limit(1)
        return await self._session.scalar(query) is not None

    async def slots(self) -> list[dict[str, Any]]:
        """Per server, what its live workers take together."""
        query = (
            select(
                ExecutorLease.server,
                func.sum(ExecutorLease.operations).label("operations"),
                func.sum(ExecutorLease.urgent).label("urgent"),
                func.sum(ExecutorLease.parents).label("parents"),
                func.count().label("workers"),
            )
            .where(ExecutorLease.expires_at > func.now(), ExecutorLease.operations > 0)
            .group_by(ExecutorLease.server)
        )
        return [dict(row) for row in (await self._session.execute(query)).mappings()]

    async def limits(self) -> tuple[dict[int, int], dict[int, int]]:
        """Operations at once of destinations and of tenants that have a limit of their own."""
        places = select(Destination.id, Destination.operations).where(Destination.operations.is_not(None))
        tenants = select(TenantQuota.user_id, TenantQuota.operations).where(TenantQuota.operations.is_not(None))
        found = [dict((await self._session.execute(query)).all()) for query in (places, tenants)]
        return found[0], found[1]  # type: ignore[return-value]

    async def active(self) -> list[Any]:
        """What was handed to the engine and has not ended."""
        query = select(
            Operation.queue, Operation.user_id, Operation.domain_uid, Operation.destinations
        ).where(Operation.status.in_(ACTIVE), Operation.queue.is_not(None))  # fmt: skip
        return list((await self._session.execute(query)).all())

    async def waiting(self, full: Full, parents: frozenset[str], types: frozenset[str] = frozenset()) -> list[Any]:
        """The first of each domain, tenants in turn; without what cannot begin because of what is `full`, and without
        `types` that must wait. `parents`: types to which the limits of tenants and destinations do not apply."""
        blocked = [
            and_(_there(server), _waited_for(urgent), Operation.user_id.in_(users))
            for (server, urgent), users in full.tenants.items()
        ] + [
            and_(_waited_for(urgent), Operation.destination_id.in_(numbers))
            for urgent, numbers in full.destinations.items()
        ]
        turn = func.row_number().over(
            partition_by=Operation.domain_uid, order_by=(Operation.priority, Operation.id)
        )  # fmt: skip
        columns = (
            Operation.id, Operation.uid, Operation.type, Operation.user_id, Operation.domain_uid,
            Operation.destinations, Operation.priority, Operation.server,
        )  # fmt: skip
        first = (
            select(*columns, turn.label("turn"))
            .where(
                Operation.status == "pending",
                Operation.queue.is_(None),
                or_(*(_there(server) for server in full.servers)),
                Operation.domain_uid.not_in(full.domains),
                Operation.type.not_in(types),
                or_(Operation.type.in_(parents), ~func.coalesce(or_(false(), *blocked), false())),
            )
            .subquery()
        )
        rank = func.row_number().over(partition_by=first.c.user_id, order_by=(first.c.priority, first.c.id))
        ranked = select(first, rank.label("rank")).where(first.c.turn == 1).subquery()
        query = select(ranked).order_by(ranked.c.priority, ranked.c.rank, ranked.c.id).limit(LOOKED_AT)
        return list((await self._session.execute(query)).all())

    async def hand_over(self, operation_id: int, queue: str) -> bool:
        """False when it was cancelled meanwhile."""
        query = (
            update(Operation)
            .where(Operation.id == operation_id, Operation.status == "pending", Operation.queue.is_(None))
            .values(queue=queue)
            .returning(Operation.id)
        )
        return await self._session.scalar(query) is not None


def _there(server: str | None) -> ColumnElement[bool]:
    return Operation.server.is_(None) if server is None else Operation.server == server


def _waited_for(yes: bool) -> ColumnElement[bool]:
    return Operation.priority == 0 if yes else Operation.priority != 0
