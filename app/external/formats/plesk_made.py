"""Archives made by hand in Plesk's image: dump.xml or psa_… at the root, clients/C/domains/D/httpdocs, databases."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.errors import InvalidRequest
from app.external.databases import database
from app.external.inventory import ForeignDatabase, ForeignDomain, Inventory
from app.external.mailboxes import mailboxes_below
from app.external.names import domain_name
from app.external.staged import Staged
from app.external.xml import Kept, read_xml

MARKER, MEMBERS = "dump.xml", "psa_"
_KEPT = Kept(frozenset({"domain"}), frozenset({"name"}), frozenset())
_MAX_DOMAINS = 10_000


def read_made(staged: Staged, root: str, domain: str | None, inventory: Inventory) -> None:
    """Raises InvalidRequest when nothing names a domain, ArchiveInvalid, ImportLimitExceeded."""
    folders = dict(_folders(staged, root))
    names = list(dict.fromkeys([*_described(staged, root), *folders])) or ([domain] if domain else [])
    if not names:
        raise InvalidRequest("The archive does not name its domain: name it in the request", field="domain_name")
    for name in names[:_MAX_DOMAINS]:
        folder = folders.get(name, root if len(names) == 1 else None)
        found = ForeignDomain(name, "main")
        if folder is not None:
            if staged.is_folder(f"{folder}httpdocs"):
                found.document_root = f"{folder}httpdocs"
            found.mailboxes = list(mailboxes_below(staged, f"{folder}mail", name))
            inventory.must_reset += [box.address for box in found.mailboxes]
            if folder != root:
                found.databases = list(_databases(staged, f"{folder}databases"))
        inventory.domains.append(found)
    inventory.domains[0].databases += _databases(staged, f"{root}databases")


def _described(staged: Staged, root: str) -> Iterator[str]:
    item = staged.get(f"{root}{MARKER}")
    if item is None or item.type != "f":
        return
    for element in read_xml(staged.read(item), _KEPT, item.path).deep("domain"):
        if (name := domain_name(element.get("name"))) is not None:
            yield name


def _folders(staged: Staged, root: str) -> Iterator[tuple[str, str]]:
    """By domain, with a slash at the end."""
    owners = [root, *(f"{root}clients/{name}/" for name in islice(staged.names(f"{root}clients"), _MAX_DOMAINS))]
    for owner in owners:
        for folder in islice(staged.names(f"{owner}domains"), _MAX_DOMAINS):
            if (name := domain_name(folder)) is not None:
                yield name, f"{owner}domains/{folder}/"


def _databases(staged: Staged, folder: str) -> Iterator[ForeignDatabase]:
    for item in staged.files(folder):
        stem = item.last.removesuffix(".gz").removesuffix(".sql")
        if stem == item.last:
            continue
        postgresql = b"PostgreSQL database dump" in staged.head(item)
        yield database(staged, "postgresql" if postgresql else "mysql", stem, item)
