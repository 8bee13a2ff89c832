"""What of a foreign backup goes where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.db.models import Domain
from app.external.inventory import ForeignDatabase, ForeignDomain, ForeignMailbox, Inventory, Problem
from app.services.database_targets import FAMILIES


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

    @property
    def label(self) -> str:
        return f"{self.kind} {self.source}"

    def as_json(self) -> dict[str, Any]:
        facts = {"number": self.number, "kind": self.kind, "source": self.source, "target": self.target}
        return facts | {"name": self.name, "bytes": self.bytes}

    def failed(self, code: str, message: str) -> dict[str, Any]:
        """Its result when it was not done."""
        status = "not_imported" if code == "import_stopped" else "failed"
        return {**self.as_json(), "status": status, "code": code, "message": message}


def plan(
    inventory: Inventory, request: dict[str, Any], domains: dict[str, Domain], refused: dict[str, Problem]
) -> list[ImportItem]:
    """`domains`: ours that may be written, by name; `refused`: why others could not be made. Every part of the
    archive that was asked for is an item."""
    items = list(_items(inventory, request, domains))
    for number, item in enumerate(items, 1):
        item.number = number
        if item.domain is None and item.problem == _missing(item.target):
            item.problem = refused.get(item.target, item.problem)
    return items


def targets(inventory: Inventory, request: dict[str, Any]) -> dict[str, str]:
    """The domain here for each domain of the archive that was asked for."""
    mapped = {entry["source"]: entry["target"] for entry in request["domains"]}
    given, found = request["domain_name"], dict[str, str]()
    known = {foreign.name for foreign in inventory.domains}
    for number, foreign in enumerate(inventory.domains):
        default = given if number == 0 and given and given not in known else foreign.name
        found[foreign.name] = mapped.get(foreign.name, default)
    only = request.get("only")
    return {name: target for name, target in found.items() if only is None or name in only}


def _items(inventory: Inventory, request: dict[str, Any], domains: dict[str, Domain]) -> Iterator[ImportItem]:
    names = targets(inventory, request)
    stored = request["as_backup"]  # needs no place to be restored to
    wanted = set(request["components"] or ("files", "database", "mail"))
    written = set[str]()
    for foreign in inventory.domains:
        if foreign.name not in names:
            continue
        target = names[foreign.name]
        domain = domains.get(target)
        if "files" in wanted and (foreign.document_root is not None or foreign.files_problem is not None):
            item = _files(foreign, target, domain, stored=stored)
            if target in written:
                item.problem = (
                    "invalid_request",
                    f"Another domain of the archive goes to {target} too: map one of them",
                )
            written.add(target)
            yield item
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
    if foreign.files_problem is not None:
        item.problem = foreign.files_problem
    elif foreign.incomplete and stored:
        text = f"{foreign.name}: only what changed since an earlier backup is in the archive: that is no backup"
        item.problem = ("invalid_request", text)
    elif domain is None:
        item.problem = _missing(target)
    elif domain.document_root is None and not stored:
        item.problem = ("invalid_request", f"{target} has no document root here: set it")
    return item


def _mail(foreign: ForeignDomain, target: str, domain: Domain | None, *, stored: bool) -> Iterator[ImportItem]:
    good = [box for box in foreign.mailboxes if box.format in ("maildir", "mbox")]
    for box in foreign.mailboxes:
        if box not in good:
            item = ImportItem(0, "mail", box.source or box.address, target, box.bytes, name=box.address)
            text = f"{box.address} is in a format that cannot be read ({box.format}): convert it to maildir first"
            item.problem = ("format_unsupported", text)
            yield item
    if good:
        size = sum(box.bytes for box in good)
        item = ImportItem(0, "mail", foreign.name, target, size, "mail", "mail", domain, mail=good)
        if foreign.mail_problem is not None:
            item.problem = foreign.mail_problem
        elif domain is None:
            item.problem = _missing(target)
        elif domain.mail_path is None and not stored:
            item.problem = ("invalid_request", f"{target} has no mail folder here: set it")
        yield item


def _database(database: ForeignDatabase, target: str, domain: Domain | None, request: dict[str, Any]) -> ImportItem:
    mapped = {entry["source"]: entry["target"] for entry in request["databases"]}
    name = mapped.get(database.name, database.name)
    item = ImportItem(0, "database", database.source, target, database.size, "", name, domain, database=database)
    if domain is None or database.problem is not None:
        item.problem = database.problem or _missing(target)
        return item
    for known in domain.databases:
        if known.name == name and known.engine in FAMILIES[database.engine]:
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
