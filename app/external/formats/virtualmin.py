"""Virtualmin's backups: one home with `.backup`, a folder of features, or many domains in one file; and archives made
by hand in their image.

Source: Virtualmin's backup formats (home, directory and single-file) and the files that its features write.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.errors import FormatUnsupported, InvalidRequest
from app.external.document_roots import measure
from app.external.formats.base import Expand, Format, Match
from app.external.formats.virtualmin_made import MARKERS, read_made
from app.external.formats.virtualmin_server import VirtualServer
from app.external.inventory import ForeignDomain, Inventory
from app.external.items import Item
from app.external.staged import Staged

_SETTINGS = "virtualmin_"
_FEATURE = "_virtualmin"
_MAX_SERVERS = 10_000
_LOOKED_INTO = 100


class VirtualminFormat(Format):
    name = "virtualmin"

    def sniff(self, staged: Staged, root: str) -> Match | None:
        servers = _stems(staged, f"{root}.backup/")
        if servers:
            return Match(f".backup/{servers[0]}{_FEATURE}", decides=True)
        stems = _stems(staged, root)
        features = dict(_features(staged, root, stems)) if stems else {}
        for stem, own in features.items():
            if len(own) > 1:
                return Match(f"{stem}{_FEATURE}")
        for stem in stems[:_LOOKED_INTO]:
            if _says_domain(staged, f"{root}{stem}{_FEATURE}"):
                return Match(f"{stem}{_FEATURE}")
        names = staged.names(root.rstrip("/"))
        if next(names, "").startswith(_SETTINGS) and all(name.startswith(_SETTINGS) for name in names):
            return Match("virtualmin_… alone")
        for marker in MARKERS:
            if staged.get(f"{root}{marker}") is not None:
                return Match(marker, marker=True)
        return None

    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        servers = _servers(staged, root, expand)
        found = Inventory(self.name, "")
        if servers:
            _read_servers(servers, found)
        elif any(staged.get(f"{root}{marker}") is not None for marker in MARKERS):
            read_made(staged, root, domain, expand, found)
        elif _stems(staged, f"{root}.backup/") or _stems(staged, root):
            raise InvalidRequest("The archive names no domain that can be one here", field="source")
        else:
            raise FormatUnsupported("This archive holds settings of Virtualmin (virtualmin_…) and no domain")
        if any(name.startswith(_SETTINGS) for name in staged.names(root.rstrip("/"))):
            found.warnings.append("The server's own settings (virtualmin_…) are in the archive; they are left out")
        measure(staged, (has for has in found.domains if has.files_problem is None))
        return found

    def password_hashes(self, staged: Staged, root: str, inventory: Inventory) -> dict[str, str]:
        found: dict[str, str] = {}
        for server in _servers(staged, root, lambda item, into: None):
            found |= {user.address: user.hash for user in server.users() if user.hash}
        boxes = {box.address for domain in inventory.domains for box in domain.mailboxes}
        return {address: secret for address, secret in found.items() if address in boxes}


def _stems(staged: Staged, base: str) -> list[str]:
    """Of the virtual servers whose features lie in a folder. The server's own settings are none."""
    names = staged.names(base.rstrip("/"))
    stems = (name.removesuffix(_FEATURE) for name in names if name.endswith(_FEATURE))
    return list(islice((stem for stem in stems if stem not in ("", "virtualmin")), _MAX_SERVERS))


def _says_domain(staged: Staged, path: str) -> bool:
    item = staged.get(path)
    return item is not None and item.type == "f" and item.size < 1 << 20 and "dom=" in staged.text(item)


def _servers(staged: Staged, root: str, expand: Expand) -> list[VirtualServer]:
    for base, home in ((f"{root}.backup/", root), (root, None)):
        stems = _stems(staged, base)
        if stems:
            features = dict(_features(staged, base, stems))
            found = [VirtualServer(staged, stem, features.get(stem, {}), None, expand) for stem in stems]
            servers = sorted((server for server in found if server.name), key=lambda server: server.is_sub)
            if home is not None and servers:  # one home, whatever else its .backup has kept
                servers[0].home = home
            return servers  # owners first: the archive's main domain is one of theirs
    return []


def _features(staged: Staged, base: str, stems: list[str]) -> Iterator[tuple[str, dict[str, Item]]]:
    """By domain and feature: `DOMAIN_FEATURE`, where both may hold underscores."""
    known, found = set(stems), dict[str, dict[str, Item]]()
    for item in staged.files(base.rstrip("/")):
        name = item.last
        at = name.find("_")
        while at >= 0:
            if name[:at] in known:
                found.setdefault(name[:at], {})[name[at + 1 :]] = item
            at = name.find("_", at + 1)
    yield from found.items()


def _read_servers(servers: list[VirtualServer], inventory: Inventory) -> None:
    by_id = {server.id: server.name for server in servers if server.id}
    for server in servers:
        found = server.read(inventory)
        if server.is_sub:
            found.parent = by_id.get(server.parent_id)
            if found.parent is None:
                inventory.warnings.append(
                    f"{server.name}: is a sub-server or alias of a domain that is in an archive of its own"
                )
        inventory.domains.append(found)
    _claim(inventory)


def _claim(inventory: Inventory) -> None:
    """Mailboxes go to the domain of their address, whose they may not be."""
    by_name: dict[str, ForeignDomain] = {found.name: found for found in inventory.domains}
    for found in inventory.domains:
        for box in list(found.mailboxes):
            name = box.address.rpartition("@")[2]
            if name == found.name:
                continue
            found.mailboxes.remove(box)
            if name in by_name and box.address not in {other.address for other in by_name[name].mailboxes}:
                by_name[name].mailboxes.append(box)
            elif name in by_name:
                inventory.warnings.append(f"{box.address}: another user has this address too; left out")
            else:
                inventory.warnings.append(f"{box.address}: is of a domain that is not in the archive; left out")
