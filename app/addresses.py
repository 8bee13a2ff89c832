"""Which addresses may be connected to for somebody: never the machine's own metadata service.

Sources: RFC 6890 (special addresses), RFC 4291 (::/96, ::ffff:0:0/96), RFC 6052 and 8215 (NAT64), RFC 3056 (6to4),
RFC 4380 (Teredo), RFC 7915 (::ffff:0:0:0/96); the URL Standard, "IPv4 parser", for 2130706433, 0x7f.1 and 0177.0.0.1.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from app.errors import AddressForbidden, DestinationUnreachable
from app.idn import to_ascii

Lookup = Callable[[str, int], Awaitable[list[str]]]
#: Services of clouds that every one of their machines reaches: Amazon, Google (IPv6), Alibaba, Oracle, Azure.
_METADATA = {
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
}
#: "This network": Linux takes some of it for the machine itself.
_THIS = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.ip_address("255.255.255.255")
#: What carries an IPv4 address, and by how many bits that lies above the last one.
_CARRIERS = [
    (ipaddress.IPv6Network(text), shift)
    for text, shift in (
        ("::/96", 0), ("::ffff:0:0/96", 0), ("::ffff:0:0:0/96", 0), ("64:ff9b::/96", 0), ("64:ff9b:1::/48", 0),
        ("2002::/16", 80), ("2001::/32", 64),
    )
]  # fmt: skip
_TEREDO = ipaddress.IPv6Network("2001::/32")
#: Leads wherever the network's own translator likes, or has been out of use for long.
_LOCAL = [ipaddress.IPv6Network(text) for text in ("::/64", "64:ff9b:1::/48", "2002::/16", "fec0::/10")]
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_SECONDS = 10


async def system_lookup(host: str, port: int) -> list[str]:
    """The addresses of `host` as the system's resolver knows them. Raises OSError, UnicodeError."""
    async with asyncio.timeout(_SECONDS):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def normal_host(text: str) -> str:
    """The one form of a host: a name in A-labels and small letters, or an address as it is usually written, without
    brackets; what the system's resolver would take for an address is one here.

    Raises ValueError, which says what is wrong.
    """
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if bracketed else text
    if bracketed or ":" in host:
        return str(ipaddress.IPv6Address(host.replace("%25", "%", 1)))
    host = to_ascii(host).removesuffix(".")
    if _NUMBER.fullmatch(host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError as error:
            raise ValueError("is no IPv4 address") from error
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise ValueError("is no host name")
    return host


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """`allow_link_local`: link-local and metadata addresses are refused unless an operator's setting allows them.
    `allow_private`: the machine itself and private networks may be reached. `lookup`: from names to addresses."""

    allow_link_local: bool = False
    allow_private: bool = True
    lookup: Lookup = system_lookup

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, each checked: connect to one of them, and look nothing up again, so that a name
        cannot change its meaning in between.

        Raises AddressForbidden, and DestinationUnreachable for a name that does not exist.
        """
        try:
            name = normal_host(host)
            found = [name] if _address(name) is not None else await self.lookup(name, port)
        except (OSError, TimeoutError, ValueError) as error:
            raise DestinationUnreachable(f"The name {host} cannot be resolved; check its spelling") from error
        for address in found:
            self.check(host, address)
        if not found:
            raise DestinationUnreachable(f"The name {host} has no address; check its spelling")
        return list(dict.fromkeys(found))

    def check_host(self, text: str) -> None:
        """As `check`, for a host that may be an address; names are looked up when they are connected to. Raises
        AddressForbidden, and ValueError for what is neither."""
        host = normal_host(text)
        if _address(host) is not None:
            self.check(text, host)

    def check(self, host: str, text: str) -> None:
        """Raises AddressForbidden when `host` must not be reached at the address `text`, or that is none."""
        address = _address(text)
        if address is None:
            raise AddressForbidden(f"{host} is {text}, which is no address", field="host")
        if not all(self._allowed(one) for one in _meanings(address)):
            # Not which: what names of the network mean is nobody's business.
            raise AddressForbidden(f"{host} leads to an address that may not be reached", field="host")

    def _allowed(self, address: IPv4Address | IPv6Address) -> bool:
        if address.is_multicast or address.is_unspecified or address == _BROADCAST:
            return False
        if isinstance(address, IPv4Address) and address in _THIS:
            return False
        if address.is_link_local or address in _METADATA:
            return self.allow_link_local
        private = not address.is_global or _within(address, _LOCAL)
        return self.allow_private or not private


def _meanings(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """An address, and the IPv4 addresses that are reached through it."""
    if isinstance(address, IPv4Address) or address in (IPv6Address("::"), IPv6Address("::1")):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    found: list[IPv4Address | IPv6Address] = [address]
    for network, shift in _CARRIERS:
        if address in network:
            found.append(IPv4Address((int(address) >> shift) & 0xFFFFFFFF))
    if address in _TEREDO:  # the client's own address, each of its bits the other way round
        found.append(IPv4Address((int(address) & 0xFFFFFFFF) ^ 0xFFFFFFFF))
    return found


def _within(address: IPv4Address | IPv6Address, networks: list[ipaddress.IPv6Network]) -> bool:
    return isinstance(address, IPv6Address) and any(address in network for network in networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Without its zone."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
