"""Who a client is: the address behind the proxies that an operator trusts, and what counts as one client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_SCHEMES = (b"http", b"https")


def address_of(text: str) -> Address | None:
    """Of `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80` and `::ffff:1.2.3.4`, which is 1.2.3.4; None for
    anything else, as `unknown`."""
    host = text.strip().strip('"')
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or not (port == "" or (port[:1] == ":" and port[1:].isdecimal())):
            return None
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not port.isdecimal():
            return None
    with suppress(ValueError):
        return _plain(ip_address(host.partition("%")[0]))
    return None


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def network_of(text: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that a site with IPv6 has to choose addresses from."""
    address = address_of(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address or text)


class Trusted:
    """Proxies that are believed."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address | str | None) -> bool:
        found = address_of(address) if isinstance(address, str) else address
        return found is not None and any(found in network for network in self._networks)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The right-most address that is no trusted proxy's; `forwarded`: what X-Forwarded-For says, each proxy has
        added whom it saw. What is no address is nobody's word: the proxy that passed it on is as far as one knows."""
        found = address_of(peer)
        if found is None:
            return peer
        for text in reversed(forwarded):
            if found not in self:
                break
            following = address_of(text)
            if following is None:
                break
            found = following
        return str(found)


class ClientAddressMiddleware:
    """Pure ASGI: puts the client's own address, and the scheme that it used, where the connection's are."""

    def __init__(self, app: ASGIApp, trusted: Trusted) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client is not None:
            peer, port = client
            forwarded, scheme = list[str](), b""
            if peer in self._trusted:
                for name, value in scope["headers"]:
                    if name == b"x-forwarded-for":
                        forwarded += value.decode("latin-1").split(",")
                    elif name == b"x-forwarded-proto":
                        scheme = value.rpartition(b",")[2].strip()
            found = self._trusted.client(peer, forwarded)
            scope["client"] = (found, 0 if forwarded else port)
            if scheme in _SCHEMES:
                scope["scheme"] = scheme.decode()
        await self._app(scope, receive, send)
