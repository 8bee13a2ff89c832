"""How many connections there are, and how long each may take: what uvicorn and h11 leave to a proxy.

A client owes us one of three things: a request's head, its body, or that it takes our answer. Who is too slow is cut
off; when there is no more room, so is who has owed a head for the longest time. What we owe has no limit here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from app.api.framing import StrictProtocol

_TICK = 1.0
#: Bytes a second of a request's body, and of an answer; modems did more.
_SLOWEST = 1024
_COMPARED = 64
#: The kernel keeps megabytes of an answer that nobody takes, of each connection; it doubles this.
_SEND_BUFFER = 1 << 18
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 21\r\nretry-after: 5\r\n"
    b"connection: close\r\n\r\nToo many connections\n"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """`most`: connections at once, `most_of_network`: of one client. `head_seconds`: for a request's head from its
    connection or the end of the last answer on; `slow_seconds`: over so long a body's or an answer's rate is looked
    at. `exempt`: whether a client may have them all, as a proxy must."""

    most: int
    most_of_network: int
    head_seconds: float = 10
    slow_seconds: float = 20
    exempt: Callable[[str], bool] = lambda address: False


@dataclass(slots=True)
class _Group:
    """`heads`: those that owe a head, `bodies`: a body; the oldest first."""

    open: int = 0
    heads: dict[Connection, None] = field(default_factory=dict)
    bodies: dict[Connection, None] = field(default_factory=dict)

    def dispensable(self) -> Connection | None:
        """Who is to go first: the oldest that owes a head, else the slowest body of the oldest ones."""
        if self.heads:
            return next(iter(self.heads))
        return min(islice(self.bodies, _COMPARED), key=lambda one: one.rate, default=None)


class Connections:
    """Of one server. `network` names what counts as one client of an address."""

    def __init__(self, bounds: Bounds, network: Callable[[str], str]) -> None:
        self.bounds = bounds
        self._network = network
        self._all = _Group()
        self._networks: dict[str, _Group] = {}
        self._members: dict[Connection, str] = {}
        self._sweeping = False

    def __call__(self, **options: Any) -> Connection:
        """What uvicorn calls for each connection."""
        return Connection(self, **options)

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, connection: Connection, address: str) -> bool:
        """Make room when there is none; False: there can be none."""
        name = self._network(address)
        group = self._networks.setdefault(name, _Group())
        full = group.open >= self.bounds.most_of_network and not self.bounds.exempt(address)
        if full or self._all.open >= self.bounds.most:
            victim = (group if full else self._all).dispensable()
            if victim is None:
                self._forget_empty(name)
                return False
            victim.cut()
            self.leave(victim)
            self._networks[name] = group
        self._members[connection] = name
        for one in (self._all, group):
            one.open += 1
        self.owes_head(connection)
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_TICK, self._sweep)
        return True

    def leave(self, connection: Connection) -> None:
        """Idempotent."""
        self.owes_nothing(connection)
        name = self._members.pop(connection, None)
        if name is not None:
            for one in (self._all, self._networks[name]):
                one.open -= 1
            self._forget_empty(name)

    def owes_head(self, connection: Connection) -> None:
        for one in self._groups(connection):
            one.bodies.pop(connection, None)
            one.heads[connection] = None

    def owes_body(self, connection: Connection) -> None:
        for one in self._groups(connection):
            one.heads.pop(connection, None)
            one.bodies[connection] = None

    def owes_nothing(self, connection: Connection) -> None:
        for one in self._groups(connection):
            one.heads.pop(connection, None)
            one.bodies.pop(connection, None)

    def _groups(self, connection: Connection) -> list[_Group]:
        name = self._members.get(connection)
        return [] if name is None else [self._all, self._networks[name]]

    def _forget_empty(self, name: str) -> None:
        if self._networks[name].open == 0:
            del self._networks[name]

    def _sweep(self) -> None:
        """One timer for all: thousands of timers would be what is to be prevented."""
        loop = asyncio.get_running_loop()
        self._sweeping = bool(self._members)
        if self._sweeping:
            loop.call_later(_TICK, self._sweep)
        for connection in list(self._members):
            connection.judge(loop.time())


class Connection(StrictProtocol):
    """uvicorn's, with an eye on what the client owes."""

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._all = connections
        self._bounds = connections.bounds
        self._since = self.loop.time()
        self._owing: str | None = None
        self._received = 0
        self._refused = False

    @property
    def rate(self) -> float:
        """Bytes a second of the body, since it was last looked at."""
        return self._received / max(self.loop.time() - self._since, 0.1)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._owe("head")
        if not self._all.enter(self, self.client[0] if self.client else ""):
            self._refused = True
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._owing == "head" and self._received == 0 and self.cycle is not None:
            self._since = self.loop.time()  # until now it was idle, which uvicorn bounds
        self._received += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def shutdown(self) -> None:
        """Who owes us something is not waited for."""
        if self._owing == "head":
            super().shutdown()
        elif self._owing is not None or self._refused:
            self.cut()
        else:
            super().shutdown()

    def cut(self) -> None:
        self.transport.abort()

    def judge(self, now: float) -> None:
        """Cut it off when it owes something for too long."""
        self._look()
        late = now - self._since
        if self._owing == "head":
            begun = self.cycle is None or self._received or self.conn.trailing_data[0]
            if begun and late > self._bounds.head_seconds:
                self.cut()
        elif self._owing is not None and late > self._bounds.slow_seconds:
            if self._owing == "reading" or self._received < _SLOWEST * late:
                self.cut()
            self._since, self._received = now, 0

    def _look(self) -> None:
        """What is owed now."""
        if self.flow.write_paused or (self.transport.is_closing() and self.transport.get_write_buffer_size()):
            self._owe("reading")  # until a good part of what waits has been taken: see asyncio's low-water mark
        elif self.cycle is None or self.cycle.response_complete:
            self._owe("head")
        elif self.cycle.more_body and not self.flow.read_paused:
            self._owe("body")
        else:
            self._owe(None)

    def _owe(self, what: str | None) -> None:
        if what == self._owing:
            return
        self._owing, self._since, self._received = what, self.loop.time(), 0
        if what == "head":
            self._all.owes_head(self)
        elif what == "body":
            self._all.owes_body(self)
        else:
            self._all.owes_nothing(self)
