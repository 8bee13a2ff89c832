"""What migrations on SQLite must not do: lose rows, constraints, or the memory of ids that were given."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine

from app.db.base import Base
from scripts.check_migrations import differences

FIRST, BEFORE = "0a0f41510a19", "f30c6a7be241"


def migrate(path: Path, to: str = "head") -> None:
    config = Config(Path(__file__).parents[1] / "alembic.ini")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    command.upgrade(config, to)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        yield database
        database.commit()


def columns(database: sqlite3.Connection, table: str) -> str:
    return ", ".join(found[1] for found in database.execute(f"PRAGMA table_info({table})"))


def row(database: sqlite3.Connection, table: str, **values: object) -> int:
    """A row with something in each column that must have it; its id."""
    made = dict(values)
    for _, name, kind, needed, default, key in database.execute(f"PRAGMA table_info({table})").fetchall():
        if needed and default is None and not key and name not in made:
            plain = {"INTEGER": 1, "BIGINT": 1, "BOOLEAN": 0, "JSON": "{}", "DATETIME": "2026-01-01 00:00:00"}
            made[name] = plain.get(kind, str(uuid.uuid4()))
    columns, marks = ", ".join(made), ", ".join("?" for _ in made)
    number = database.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(made.values())).lastrowid
    assert number is not None
    return number


def backup(database: sqlite3.Connection, **values: object) -> int:
    return row(database, "backups", **({"destination_id": 1} | values))


def test_the_id_of_a_deleted_backup_is_never_another_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path)
    with opened(path) as database:
        row(database, "backup_destinations")
        last = [backup(database) for _ in range(3)][-1]
        database.execute("DELETE FROM backups WHERE id = ?", (last,))
        assert backup(database) == last + 1


def test_no_table_gives_an_id_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as database:  # what rows refer to does not matter here
        for table, made in Base.metadata.tables.items():
            if made.dialect_options["sqlite"]["autoincrement"]:
                last = row(database, table)
                database.execute(f"DELETE FROM {table}")
                assert row(database, table) == last + 1, table


def test_what_was_deleted_before_the_upgrade_is_known_by_what_refers_to_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path, BEFORE)
    with opened(path) as database:
        row(database, "backup_destinations", id=1)
        row(database, "backup_destinations", id=2)
        row(database, "backup_schedules", id=9)
        row(database, "schedule_runs", schedule_id=9)
        backup(database, id=30, schedule_id=12)
        row(database, "operations", id=70, backup_id=31, destination_id=6, parent_id=71)
        row(database, "audit_events", target="/api/operations/80/cancel", outcome="202")
        row(database, "audit_events", target="/api/operations/2147483000/cancel", outcome="404")
        row(database, "audit_events", target="/api/backups/bulk-restore", outcome="202")
        tables = ("backup_destinations", "backup_schedules", "schedule_runs", "backups", "operations")
        queries = [f"SELECT {columns(database, name)} FROM {name}" for name in tables]
        before = [database.execute(query).fetchall() for query in queries]
    migrate(path)
    with opened(path) as database:
        assert [database.execute(query).fetchall() for query in queries] == before
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert backup(database) == 32
        assert row(database, "backup_destinations") == 7
        assert row(database, "backup_schedules") == 13
        assert row(database, "operations") == 81
        with pytest.raises(sqlite3.IntegrityError):
            backup(database, destination_id=99)


def test_every_upgrade_remembers_the_ids_that_were_given(tmp_path: Path) -> None:
    """Rebuilding a table forgets them."""
    path = tmp_path / "x.db"
    migrate(path, FIRST)
    with opened(path) as database:
        row(database, "backup_destinations")
        backup(database, id=40)
        database.execute("DELETE FROM backups")
    migrate(path)
    with opened(path) as database:
        assert backup(database) == 41


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path, BEFORE)
    with opened(path) as database:
        database.execute("CREATE TABLE _alembic_tmp_operations (id integer)")  # in the way of the last steps
        before = database.execute("SELECT * FROM sqlite_master ORDER BY name").fetchall()
    with pytest.raises(Exception, match="_alembic_tmp_operations"):
        migrate(path)
    with opened(path) as database:
        assert database.execute("SELECT * FROM sqlite_master ORDER BY name").fetchall() == before
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(BEFORE,)]


def test_the_check_sees_a_rebuild_that_forgets(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    migrate(path)
    assert differences(path, tmp_path) == []
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("backups", recreate="always"):
            pass
        connection.exec_driver_sql("DROP INDEX uq_operations_active_backup")
        connection.exec_driver_sql(
            "CREATE UNIQUE INDEX uq_operations_active_backup ON operations (domain_uid, backup_type) "
            "WHERE type = 'backup'"
        )
    engine.dispose()
    found = differences(path, tmp_path)
    assert [line.partition(" is ")[0] for line in found] == ["backups: AUTOINCREMENT", "operations: indexes"]
