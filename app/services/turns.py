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
    Where nobody has set a limit, a tenant has all of a lane's slots but one. What starts others does not count. What
    is waited for may go beyond a limit by one, in the lane that it has for itself."""

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
        self._parts: Counter[tuple[int | None, str]] = Counter()
        self._destinations: Counter[int] = Counter()
        self._room: dict[str, int] = {}
        self._share: dict[str, int] = {}
        for some in slots:
            # More than can run, so that no worker has to wait for the next decision.
            ahead = 2 * some.workers if some.operations else 0
            for kind, size in ((OPERATIONS, some.operations), (URGENT, some.urgent), (PARENTS, some.parents)):
                name = lane(kind, some.server)
                self._room[name] = size + (ahead if kind == OPERATIONS else 0)
                self._share[name] = max(1, size - 1)
        for one in active:
            self._count(one.queue, one.user_id, one.domain_uid, one.destinations)

    def _count(self, queue: str, user_id: int | None, domain_uid: str, destinations: tuple[int, ...]) -> None:
        self._lanes[queue] += 1
        self._domains.add(domain_uid)
        if not queue.startswith(PARENTS):
            self._tenants[user_id] += 1
            self._parts[user_id, queue] += 1
            self._destinations.update(set(destinations))

    @property
    def servers(self) -> list[str | None]:
        """Those whose workers can take more."""
        free = {queue for queue, room in self._room.items() if self._lanes[queue] < room}
        return sorted({queue.partition("@")[2] or None for queue in free}, key=str)

    @property
    def busy_domains(self) -> set[str]:
        return self._domains

    def full_tenants(self, server: str | None, *, waited_for: bool) -> set[int]:
        """Who can have no more there."""
        tenants = [user for user in self._tenants if user is not None]
        return {user for user in tenants if not self._lanes_of(user, server, over=False, waited_for=waited_for)}

    def full_destinations(self, *, waited_for: bool) -> set[int]:
        return {number for number in self._destinations if self._beyond(number, by=int(waited_for))}

    def _beyond(self, number: int, by: int) -> bool:
        """Whether a destination has its limit, and so many more."""
        limit = self._limits.destinations.get(number)
        return limit is not None and self._destinations[number] >= limit + by

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
            lanes = [lane(PARENTS, one.server)]
        else:
            waited_for = one.priority == WAITED_FOR
            if any(self._beyond(number, by=int(waited_for)) for number in one.destinations):
                return None
            over = any(self._beyond(number, by=0) for number in one.destinations)
            lanes = self._lanes_of(one.user_id, one.server, over=over, waited_for=waited_for)
        return next((name for name in lanes if self._lanes[name] < self._room.get(name, 0)), None)

    def _lanes_of(self, user_id: int | None, server: str | None, *, over: bool, waited_for: bool) -> list[str]:
        """Where a tenant may have one more, as far as that depends on what they have. `over`: a destination has its
        limit already."""
        limit, found = self._limits.of_tenant(user_id), list[str]()
        if waited_for:
            urgent = lane(URGENT, server)
            own = user_id is None or self._parts[user_id, urgent] < self._share.get(urgent, 1)
            if own and (limit is None or self._tenants[user_id] <= limit):
                found.append(urgent)
        operations = lane(OPERATIONS, server)
        if limit is not None:
            full = self._tenants[user_id] >= limit
        else:
            full = user_id is not None and self._parts[user_id, operations] >= self._share.get(operations, 1)
        if not full and not over:
            found.append(operations)
        return found
