"""What of a foreign backup goes where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.db.models import Domain
from app.external.inventory import ForeignDatabase, ForeignDomain, ForeignMailbox, Inventory

_ENGINES = {"mysql": ("mysql", "mariadb"), "postgresql": ("postgresql",)}


@dataclass(slots=True)
class ImportItem:
    """One part that is imported, or cannot be (`problem`: a code and a sentence). `target`: the domain here."""

    number: int
    kind: str
    source: str
    target: str
    bytes: int
    component: str = ""
    name: str = ""
    domain: Domain | None = None
    files: ForeignDomain | None = None
    mail: list[ForeignMailbox] = field(default_factory=list)
    database: ForeignDatabase | None = None
    problem: tuple[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        facts = {"number": self.number, "kind": self.kind, "source": self.source, "target": self.target}
        return facts | {"name": self.name, "bytes": self.bytes}


def plan(inventory: Inventory, request: dict[str, Any], domains: dict[str, Domain]) -> list[ImportItem]:
    """`domains`: ours that may be written, by name. Every part of the archive that was asked for is an item."""
    items = list(_items(inventory, request, domains))
    for number, item in enumerate(items, 1):
        item.number = number
    return items


def targets(inventory: Inventory, request: dict[str, Any]) -> dict[str, str]:
    """The domain here for each domain of the archive."""
    mapped = {entry["source"]: entry["target"] for entry in request["domains"]}
    found = {}
    for number, foreign in enumerate(inventory.domains):
        default = request["domain_name"] if number == 0 and request["domain_name"] else foreign.name
        found[foreign.name] = mapped.get(foreign.name, default)
    return found


def _items(inventory: Inventory, request: dict[str, Any], domains: dict[str, Domain]) -> Iterator[ImportItem]:
    names = targets(inventory, request)
    stored = request["as_backup"]  # needs no place to be restored to
    wanted = set(request["components"] or ("files", "database", "mail"))
    for foreign in inventory.domains:
        target = names[foreign.name]
        domain = domains.get(target)
        if "files" in wanted and foreign.document_root is not None:
            yield _files(foreign, target, domain, stored=stored)
        if "database" in wanted:
            for database in foreign.databases:
                yield _database(database, target, domain, request)
        if "mail" in wanted and foreign.mailboxes:
            yield from _mail(foreign, target, domain, stored=stored)


def _missing(target: str) -> tuple[str, str]:
    return (
        "not_found",
        f"There is no domain {target} of this user here: create it, or map the archive's domain to another one",
    )


def _files(foreign: ForeignDomain, target: str, domain: Domain | None, *, stored: bool) -> ImportItem:
    item = ImportItem(
        0, "files", foreign.document_root or "", target, foreign.bytes, "files", "files", domain, foreign
    )
    if domain is None:
        item.problem = _missing(target)
    elif domain.document_root is None and not stored:
        item.problem = ("invalid_request", f"{target} has no document root here: set it")
    return item


def _mail(foreign: ForeignDomain, target: str, domain: Domain | None, *, stored: bool) -> Iterator[ImportItem]:
    good = [box for box in foreign.mailboxes if box.format == "maildir"]
    for box in foreign.mailboxes:
        if box.format != "maildir":
            item = ImportItem(0, "mail", box.source or box.address, target, box.bytes, name=box.address)
            text = f"{box.address} is in a format that cannot be read ({box.format}): convert it to maildir first"
            item.problem = ("format_unsupported", text)
            yield item
    if good:
        size = sum(box.bytes for box in good)
        item = ImportItem(0, "mail", foreign.name, target, size, "mail", "mail", domain, mail=good)
        if domain is None:
            item.problem = _missing(target)
        elif domain.mail_path is None and not stored:
            item.problem = ("invalid_request", f"{target} has no mail folder here: set it")
        yield item


def _database(database: ForeignDatabase, target: str, domain: Domain | None, request: dict[str, Any]) -> ImportItem:
    mapped = {entry["source"]: entry["target"] for entry in request["databases"]}
    name = mapped.get(database.name, database.name)
    item = ImportItem(0, "database", database.source, target, database.size, "", name, domain, database=database)
    if domain is None:
        item.problem = _missing(target)
        return item
    for known in domain.databases:
        if known.name == name and known.engine in _ENGINES[database.engine]:
            item.component = known.engine
            return item
    if request["as_backup"]:
        item.component = database.engine
        return item
    item.problem = (
        "not_found",
        f"{target} has no {database.engine} database {name} here: add it, or map {database.name} to another one",
    )
    return item
