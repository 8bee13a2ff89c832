"""Archives made by hand in Virtualmin's image: virtualmin.info, public_html.tar.gz, mysql, pgsql, mail/…/Maildir."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.errors import InvalidRequest
from app.external.databases import database
from app.external.formats.base import Expand, inside, opened
from app.external.inventory import Engine, ForeignDatabase, ForeignDomain, Inventory
from app.external.key_values import pairs
from app.external.mailboxes import mailboxes_below
from app.external.names import domain_name
from app.external.staged import Staged

MARKERS = ("virtualmin.info", "domain.info")
_KEYS = ("dom", "domain", "domain_name")
_FOLDERS: tuple[tuple[str, Engine], ...] = (("mysql", "mysql"), ("pgsql", "postgresql"), ("postgres", "postgresql"))


def read_made(staged: Staged, root: str, domain: str | None, expand: Expand, inventory: Inventory) -> None:
    """Raises InvalidRequest when nothing names the domain."""
    settings = dict(pairs("\n".join(staged.text_of(f"{root}{marker}") for marker in MARKERS)))
    named = next((name for key in _KEYS if (name := domain_name(settings.get(key))) is not None), None) or domain
    if named is None:
        raise InvalidRequest("The archive does not name its domain: name it in the request", field="domain_name")
    found = ForeignDomain(named, "main")
    _files(staged, root, expand, found)
    found.databases = list(_databases(staged, root))
    found.mailboxes = list(mailboxes_below(staged, f"{root}mail", named))
    inventory.domains.append(found)
    inventory.must_reset += [box.address for box in found.mailboxes]


def _files(staged: Staged, root: str, expand: Expand, found: ForeignDomain) -> None:
    if staged.is_folder(f"{root}public_html"):
        found.document_root = f"{root}public_html"
    for item in staged.files(root.rstrip("/")):
        if item.last.startswith("public_html."):
            found.files_problem = opened(expand, item)
            folder = inside(item)
            nested = f"{folder}/public_html"
            alone = list(islice(staged.names(folder), 2)) == ["public_html"] and staged.is_folder(nested)
            found.document_root = nested if alone else folder


def _databases(staged: Staged, root: str) -> Iterator[ForeignDatabase]:
    for folder, engine in _FOLDERS:
        for item in staged.files(f"{root}{folder}"):
            name = item.last.removesuffix(".gz")
            stem = name.removesuffix(".sql").removesuffix(".dump")
            if stem != name:
                yield database(staged, engine, stem, item)
