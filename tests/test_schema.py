"""What the service finds out of the schema before it loads Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from app.db.schema import is_at, newest
from app.db.session import Database
from tests.test_migrations import BEFORE, migrate

_MIGRATIONS = Path(__file__).parents[1] / "migrations"


def test_the_newest_migration_is_alembics() -> None:
    found = ScriptDirectory.from_config(Config(_MIGRATIONS.parent / "alembic.ini"))
    assert newest(_MIGRATIONS) == found.get_current_head()


def test_where_it_cannot_be_told_there_is_none(tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    assert newest(tmp_path) is None
    (versions / "a.py").write_text('revision = "0a"\ndown_revision = None\n')
    assert newest(tmp_path) == "0a"
    (versions / "b.py").write_text('revision: str = "0b"\ndown_revision: str | None = "0a"\n')
    assert newest(tmp_path) == "0b"
    (versions / "c.py").write_text("revision = '0c'\ndown_revision = '0a'\n")
    assert newest(tmp_path) is None, "two heads"
    (versions / "c.py").write_text("revision = 1\n")
    assert newest(tmp_path) is None


async def test_only_a_database_at_the_newest_migration_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = Database(f"sqlite+aiosqlite:///{path}")
    assert not await is_at(database, newest(_MIGRATIONS)), "an empty file"
    migrate(path, BEFORE)
    assert not await is_at(database, newest(_MIGRATIONS))
    migrate(path)
    assert await is_at(database, newest(_MIGRATIONS))
    assert not await is_at(database, None)
    await database.close()
