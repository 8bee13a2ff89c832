"""Whose turn it is: a pure function of what runs, what waits, and the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Priorities. Somebody looks at a screen and waits for it; somebody asked for it; nobody is there.
WAITED_FOR, ON_DEMAND, AUTOMATIC = 0, 1, 2
OPERATIONS, URGENT, PARENTS = "operations", "urgent", "parents"


def lane(kind: str, server: str | None) -> str:
    """The engine's name of the queue; workers on a server have queues of their own."""
    return kind if server is None else f"{kind}@{server}"


@dataclass(frozen=True, slots=True)
class Slots:
    """How much all live workers of `server` (None: those of no server in particular) run at once. `urgent`: beside
    `operations`, for what is waited for. `parents`: operations that start others."""

    server: str | None
    operations: int
    urgent: int
    parents: int
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """`destinations`: ids of all that it reads from or writes to. `parent`: it starts others, and waits for them."""

    id: int
    user_id: int | None
    domain_uid: str
    destinations: tuple[int, ...] = ()
    priority: int = ON_DEMAND
    server: str | None = None
    parent: bool = False


@dataclass(frozen=True, slots=True)
class Active:
    """`queue`: the lane that it was given to."""

    queue: str
    user_id: int | None
    domain_uid: str
    destinations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Operations at once: of each destination that has a limit, of each tenant that has one, of every other tenant.
    What starts others does not count."""

    destinations: dict[int, int] = field(default_factory=dict)
    tenants: dict[int, int] = field(default_factory=dict)
    tenant: int | None = None

    def of_tenant(self, user_id: int | None) -> int | None:
        return None if user_id is None else self.tenants.get(user_id, self.tenant)


class Turns:
    """What may begin. One operation of a domain at a time; what is waited for first; then tenants in turn, whoever
    has the fewest running; then the oldest."""

    def __init__(self, slots: Iterable[Slots], limits: Limits, active: Iterable[Active]) -> None:
        self._limits = limits
        self._lanes: Counter[str] = Counter()
        self._domains: set[str] = set()
        self._tenants: Counter[int | None] = Counter()
        self._destinations: Counter[int] = Counter()
        self._room: dict[str, int] = {}
        for some in slots:
            # More than can run, so that no worker has to wait for the next decision.
            ahead = 2 * some.workers if some.operations else 0
            self._room[lane(OPERATIONS, some.server)] = some.operations + ahead
            self._room[lane(URGENT, some.server)] = some.urgent
            self._room[lane(PARENTS, some.server)] = some.parents
        for one in active:
            self._count(one.queue, one.user_id, one.domain_uid, one.destinations)

    def _count(self, queue: str, user_id: int | None, domain_uid: str, destinations: tuple[int, ...]) -> None:
        self._lanes[queue] += 1
        self._domains.add(domain_uid)
        if not queue.startswith(PARENTS):
            self._tenants[user_id] += 1
            self._destinations.update(set(destinations))

    @property
    def servers(self) -> list[str | None]:
        """Those whose workers can take more."""
        free = {queue for queue, room in self._room.items() if self._lanes[queue] < room}
        return sorted({queue.partition("@")[2] or None for queue in free}, key=str)

    @property
    def busy_domains(self) -> set[str]:
        return self._domains

    @property
    def full_tenants(self) -> set[int]:
        return {user for user in self._tenants if user is not None and self._tenant_full(user)}

    @property
    def full_destinations(self) -> set[int]:
        return {number for number in self._destinations if self._destination_full(number)}

    def _tenant_full(self, user_id: int | None) -> bool:
        limit = self._limits.of_tenant(user_id)
        return limit is not None and self._tenants[user_id] >= limit

    def _destination_full(self, number: int) -> bool:
        limit = self._limits.destinations.get(number)
        return limit is not None and self._destinations[number] >= limit

    def choose(self, waiting: Sequence[Waiting]) -> list[tuple[Waiting, str]]:
        """Those of `waiting` that may begin now, each with its lane; they count from now on."""
        left, chosen = list(waiting), list[tuple[Waiting, str]]()
        while True:
            fit = [(one, queue) for one in left if (queue := self._lane_of(one)) is not None]
            if not fit:
                return chosen
            best = min(fit, key=lambda pair: (pair[0].priority, self._tenants[pair[0].user_id], pair[0].id))
            chosen.append(best)
            one, queue = best
            self._count(queue, one.user_id, one.domain_uid, one.destinations)
            left = [other for other in left if other.domain_uid != one.domain_uid]

    def _lane_of(self, one: Waiting) -> str | None:
        """None when it has to wait."""
        if one.domain_uid in self._domains:
            return None
        if one.parent:
            kinds = [PARENTS]
        elif self._tenant_full(one.user_id) or any(self._destination_full(number) for number in one.destinations):
            return None
        else:
            kinds = [URGENT, OPERATIONS] if one.priority == WAITED_FOR else [OPERATIONS]
        lanes = [lane(kind, one.server) for kind in kinds]
        return next((name for name in lanes if self._lanes[name] < self._room.get(name, 0)), None)
