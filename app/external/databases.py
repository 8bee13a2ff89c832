"""Dumps of databases in foreign archives."""

from __future__ import annotations

from collections.abc import Iterable

from app.archives.tar import BLOCK, is_header
from app.external.inventory import Engine, ForeignDatabase
from app.external.items import Item, shown
from app.external.staged import Staged


def database(staged: Staged, engine: Engine, name: str, item: Item, users: Iterable[str] = ()) -> ForeignDatabase:
    """What it is says the dump: pg_dump's custom format begins with PGDMP, its tar format is a tar. One of no bytes
    says nothing, not even that the database was empty."""
    head = staged.head(item) if engine == "postgresql" else b""
    archive = head.startswith(b"PGDMP") or is_header(head[:BLOCK])
    found = ForeignDatabase(engine, name, item.name, "pg_dump" if archive else "sql", item.size, list(users))
    if item.size == 0:
        found.problem = ("archive_invalid", f"{shown(item.path)} is empty (0 bytes): a dump of a database never is")
    return found
