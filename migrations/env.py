"""Runs migrations on the database of the settings, or of the URL that the caller hands over; all of them or none.

SQLite: the driver would commit at each change of a table, and a table that is rebuilt forgets which ids it has had
(its row in sqlite_sequence goes with the old table): both are put right here, for every migration.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, create_engine, event

import app.db.models  # noqa: F401  fills the metadata
from app.db.base import Base, UtcDateTime
from app.settings import Settings


def sync_url(url: str) -> str:
    return url.replace("sqlite+aiosqlite", "sqlite").replace("postgresql+asyncpg", "postgresql+psycopg")


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Migrations must not import the application: it changes, they do not."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def _manual(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def sequences(connection: Connection) -> dict[str, int]:
    """The highest id that each table of SQLite with AUTOINCREMENT has ever given."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").scalar():
        return {}
    found = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence").mappings()
    return {row["name"]: row["seq"] for row in found}


def keep_sequences(connection: Connection, before: dict[str, int]) -> None:
    now = sequences(connection)
    made = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
    for name in connection.exec_driver_sql(made).scalars().all():
        if name not in now and name in before:
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, before[name]))
        elif before.get(name, 0) > now.get(name, 0):
            connection.exec_driver_sql("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (before[name], name))


def run(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    known: dict[str, int] = {}

    def keep(**_step: Any) -> None:
        """After each migration: what one has put right, a later one must not forget."""
        if sqlite:
            keep_sequences(connection, known)
            known.update(sequences(connection))

    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=sqlite,
        compare_type=True,
        render_item=render_item,
        transactional_ddl=True,
        on_version_apply=keep,
    )
    with context.begin_transaction():
        if sqlite:
            known.update(sequences(connection))
        context.run_migrations()


url = context.config.get_main_option("sqlalchemy.url") or Settings().database_url
engine = create_engine(sync_url(url))
if engine.dialect.name == "sqlite":
    event.listen(engine, "connect", _manual)
    event.listen(engine, "begin", _begin)
with engine.connect() as connection:
    run(connection)
engine.dispose()
