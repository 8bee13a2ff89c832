"""Checks that the migrations make exactly what the models say, on a fresh SQLite file.

Alembic's own check sees columns, plain indexes and constraints. On SQLite it does not see AUTOINCREMENT, which every
rebuild of a table loses unless it is told (`batch_alter_table(…, table_kwargs={"sqlite_autoincrement": True})`), nor
which rows a partial index holds: so what the migrations made is compared with what the models make.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import app.db.models  # noqa: F401  fills the metadata
from app.db.base import Base


def differences(migrated: Path, folder: Path) -> list[str]:
    """How a migrated SQLite file differs from the models. `folder`: for a file that is made of these."""
    made = folder / "models.db"
    engine = create_engine(f"sqlite:///{made}")
    Base.metadata.create_all(engine)
    engine.dispose()
    ours, wanted = _described(migrated), _described(made)
    found = [f"{name}: not in the models" for name in ours.keys() - wanted.keys() - {"alembic_version"}]
    for name, facts in wanted.items():
        if name not in ours:
            found.append(f"{name}: no migration makes it")
            continue
        for fact, value in facts.items():
            if ours[name][fact] != value:
                found.append(f"{name}: {fact} is {ours[name][fact]} after the migrations, in the models {value}")
    return sorted(found)


def _described(path: Path) -> dict[str, dict[str, Any]]:
    with closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: {
                "AUTOINCREMENT": "AUTOINCREMENT" in sql,
                "columns": sorted(row[1:] for row in database.execute(f'PRAGMA table_info("{name}")')),
                "foreign keys": sorted(row[2:] for row in database.execute(f'PRAGMA foreign_key_list("{name}")')),
                "indexes": sorted(_indexes(database, name)),
            }
            for name, sql in tables
            if not name.startswith("sqlite_")
        }


def _indexes(database: sqlite3.Connection, table: str) -> list[tuple[str, str, str, str]]:
    """Name (of a constraint's none), uniqueness, columns and condition of each."""
    found = []
    for _, name, unique, origin, _ in database.execute(f'PRAGMA index_list("{table}")').fetchall():
        columns = ",".join(str(row[2]) for row in database.execute(f'PRAGMA index_info("{name}")'))
        sql = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0] or ""
        condition = " ".join(re.split(r"\bWHERE\b", sql, maxsplit=1)[1:]).strip()
        found.append((name if origin == "c" else origin, "unique" if unique else "", columns, condition))
    return found


def main() -> None:
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        config = Config(root / "alembic.ini")
        config.set_main_option("sqlalchemy.url", f"sqlite:///{folder}/check.db")
        command.upgrade(config, "head")
        command.check(config)
        if found := differences(Path(folder, "check.db"), Path(folder)):
            raise SystemExit("\n".join(["The migrations do not make what the models say:", *found]))
        command.downgrade(config, "base")


if __name__ == "__main__":
    main()
