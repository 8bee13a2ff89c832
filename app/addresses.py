"""Which addresses may be connected to for somebody: never the machine's own metadata service."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.errors import AddressForbidden, DestinationUnreachable

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from aiohttp.abc import AbstractResolver

#: Metadata services of clouds outside the link-local range (Amazon over IPv6, Alibaba).
_METADATA = {ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200")}


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """`allow_link_local`: link-local and metadata addresses are refused unless an operator's setting allows them.
    `allow_private`: the machine itself and private networks may be reached."""

    allow_link_local: bool = False
    allow_private: bool = True

    async def resolve(self, host: str, port: int) -> str:
        """The first of `addresses`: connect to it, so that a name cannot change its meaning in between.

        Raises AddressForbidden, and DestinationUnreachable for a name that does not exist.
        """
        return (await self.addresses(host, port))[0]

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, each checked. Raises as `resolve`."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise DestinationUnreachable(f"The name {host} cannot be resolved; check its spelling") from error
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            self.check(host, address)
        return addresses

    def check(self, host: str, text: str) -> None:
        """Raises AddressForbidden when `host` must not be reached at the address `text`."""
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        local = address.is_link_local or address in _METADATA
        private = not address.is_global and not address.is_link_local
        forbidden = (local and not self.allow_link_local) or (private and not self.allow_private)
        if forbidden or address.is_multicast or address.is_unspecified:
            raise AddressForbidden(f"{host} is {address}, which may not be reached", field="host")


def guarded_session(guard: AddressGuard, url: str, seconds: float) -> ClientSession:
    """An HTTP client for `url`: the addresses that were checked are those that are connected to. Redirects must not
    be followed with it. `seconds`: of a request in all. Raises AddressForbidden for an address in the URL itself."""
    import aiohttp

    host = urlsplit(url).hostname or ""
    with suppress(ValueError):  # a name: looked up when it is connected to
        ipaddress.ip_address(host.partition("%")[0])
        guard.check(host, host)
    connector = aiohttp.TCPConnector(resolver=_resolver(guard), force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=seconds))


def _resolver(guard: AddressGuard) -> AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Guarded(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            async with asyncio.timeout(10):
                found = await guard.addresses(host, port)
            return [self._entry(host, port, address) for address in dict.fromkeys(found)]

        @staticmethod
        def _entry(host: str, port: int, address: str) -> ResolveResult:
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            return ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )

        async def close(self) -> None:
            """Nothing is kept."""

    return Guarded()
