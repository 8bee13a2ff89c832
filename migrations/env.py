"""Runs migrations on the database of the settings, or on the connection the caller hands over."""

from __future__ import annotations

from typing import Literal

from alembic import context
from sqlalchemy import Connection, create_engine

import app.db.models  # noqa: F401  fills the metadata
from app.db.base import Base, UtcDateTime
from app.settings import Settings


def sync_url(url: str) -> str:
    return url.replace("sqlite+aiosqlite", "sqlite").replace("postgresql+asyncpg", "postgresql+psycopg")


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Migrations must not import the application: it changes, they do not."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


url = context.config.get_main_option("sqlalchemy.url") or Settings().database_url
engine = create_engine(sync_url(url))
with engine.connect() as connection:
    run(connection)
engine.dispose()
