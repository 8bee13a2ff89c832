"""Connections to somebody else's servers: to an address that was judged, and to no other."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.addresses import AddressGuard, normal_host
from app.errors import AddressForbidden, DestinationUnreachable, LiberuError

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from aiohttp.abc import AbstractResolver
    from yarl import URL


class GuardedSocket(socket.socket):
    """Connects to no address that its guard refuses, whoever has looked it up. And asyncio, which asks for the peer
    before anything is sent, makes no connection of one that has such a peer."""

    def __init__(
        self, guard: AddressGuard, family: int, type: int = socket.SOCK_STREAM, proto: int = socket.IPPROTO_TCP
    ) -> None:
        super().__init__(family, type, proto)
        self._guard = guard

    def connect(self, address: Any) -> None:
        self._judge(address)
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        self._judge(address)
        return super().connect_ex(address)

    def getpeername(self) -> Any:
        found = super().getpeername()
        self._judge(found)
        return found

    def _judge(self, address: Any) -> None:
        """Raises AddressForbidden."""
        if self.family not in (socket.AF_INET, socket.AF_INET6):
            raise AddressForbidden(f"{address} is no address of a network", field="host")
        self._guard.check(str(address[0]), str(address[0]))


async def connected(guard: AddressGuard, host: str, port: int) -> socket.socket:
    """A connection to the first of the addresses of `host` that takes one; the caller sets a timeout.

    Raises AddressForbidden, DestinationUnreachable for a name that does not exist, OSError.
    """
    refused: OSError | None = None
    for address in await guard.addresses(host, port):
        made = GuardedSocket(guard, socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, (address, port))
            if not _same(made.getpeername()[0], address):
                raise DestinationUnreachable(f"{host} answers from another address than {address}")
        except OSError as error:
            made.close()
            refused = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    assert refused is not None
    raise refused


def _same(one: str, other: str) -> bool:
    return ipaddress.ip_address(one.partition("%")[0]) == ipaddress.ip_address(other.partition("%")[0])


def socket_factory(guard: AddressGuard) -> Callable[[Any], socket.socket]:
    """For aiohttp, beside `resolver`, which it does not ask about what it takes for an address: `bucket.host` may be
    one where `host` is none."""

    def make(info: Any) -> socket.socket:
        family, type, proto, _, _ = info
        return GuardedSocket(guard, family, type, proto)

    return make


def guarded_session(guard: AddressGuard, seconds: float) -> ClientSession:
    """An HTTP client for addresses that `target` gives. Redirects must not be followed with it: nobody has asked for
    where they lead. `seconds`: of a request in all."""
    import aiohttp

    connector = aiohttp.TCPConnector(resolver=resolver(guard), socket_factory=socket_factory(guard), force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=seconds))


def target(url: str) -> URL:
    """`url` with its host in its one form. Raises ValueError."""
    from yarl import URL

    parsed = URL(url)
    if parsed.host is None:
        raise ValueError("names no host")
    host = normal_host(parsed.host)
    return parsed if host == parsed.host else parsed.with_host(host)


def refusal(error: BaseException) -> LiberuError | None:
    """What the guard refused, below what libraries have made of it."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, LiberuError):
        seen = seen.__cause__ or seen.__context__
    return seen


def resolver(guard: AddressGuard) -> AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Guarded(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            try:
                found = await guard.addresses(host, port)
            except LiberuError as error:  # aiohttp knows nothing but OSError; see `refusal`
                raise OSError(error.message) from error
            return [self._entry(host, port, address) for address in found]

        @staticmethod
        def _entry(host: str, port: int, address: str) -> ResolveResult:
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            return ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )

        async def close(self) -> None:
            """Nothing is kept."""

    return Guarded()
