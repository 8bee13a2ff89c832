"""State on SQLite and on PostgreSQL: migrations make what the models say, and the service does its main job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from demo.sample_files import differences, snapshot
from demo.servers import PostgresqlServer, postgresql_server
from demo.service import Service
from tests.service.conftest import domain, folder, service, site

__all__ = ["domain", "folder", "service", "site"]  # fixtures


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        yield started


def _url(server: PostgresqlServer, name: str, driver: str) -> str:
    return f"postgresql+{driver}://admin:{server.admin_password}@127.0.0.1:{server.port}/{name}"


def _check(url: str) -> None:
    config = Config(Path(__file__).parents[1] / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url)
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "base")
    command.upgrade(config, "head")
    command.check(config)


def test_migrations_on_sqlite(tmp_path: Path) -> None:
    _check(f"sqlite:///{tmp_path}/state.db")


def test_migrations_on_postgresql(server: PostgresqlServer) -> None:
    server.run("CREATE DATABASE migrations")
    _check(_url(server, "migrations", "psycopg"))


def _destinations_get_uids(url: str) -> None:
    config = Config(Path(__file__).parents[1] / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url)
    command.upgrade(config, "a41c7d90e5b8-1")
    engine = create_engine(url)
    insert = (
        "INSERT INTO backup_destinations (name, type, configuration, is_default, is_active, retention_days,"
        " retention, encrypt, recipients, own_key, created_at, updated_at)"
        " VALUES (:name, 'local', '{}', :no, :no, 30, '{}', :no, '[]', :no, :at, :at)"
    )
    with engine.begin() as connection:
        for name in ("one", "two"):
            connection.execute(text(insert), {"name": name, "no": False, "at": "2026-11-20 10:00:00"})
    command.upgrade(config, "head")
    with engine.connect() as connection:
        found = connection.execute(text("SELECT uid, prepared_at FROM backup_destinations")).all()
    engine.dispose()
    assert {len(uid) for uid, _ in found} == {36}
    assert len({uid for uid, _ in found}) == 2
    assert [prepared for _, prepared in found] == [None, None]


def test_destinations_that_are_there_get_uids(tmp_path: Path, server: PostgresqlServer) -> None:
    _destinations_get_uids(f"sqlite:///{tmp_path}/state.db")
    server.run("CREATE DATABASE uids")
    _destinations_get_uids(_url(server, "uids", "psycopg"))


def test_the_main_job_with_state_and_engine_in_postgresql(folder: Path, site: Path, server: PostgresqlServer) -> None:
    server.run("CREATE DATABASE state")
    server.run("CREATE DATABASE engine")
    service = Service(
        folder,
        LIBERU_DATABASE__URL=_url(server, "state", "asyncpg"),
        LIBERU_DATABASE__ENGINE_URL=_url(server, "engine", "psycopg"),
    )
    service.start()
    try:
        _main_job(service, site)
    finally:
        service.stop()


def _main_job(service: Service, site: Path) -> None:
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    before = snapshot(site)
    backup = service.backup(made)
    assert backup["status"] == "completed", backup
    (site / "large.bin").unlink()
    service.stop()
    service.start()
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    stats = service.call("GET", "/api/backups/stats")
    assert (stats["total_backups"], stats["completed_backups"]) == (1, 1)
    assert service.call("GET", "/api/domains", params={"per_page": 1})["total"] == 1
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
