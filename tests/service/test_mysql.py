"""A MariaDB database through the API: with an administrator, without one, and killed in the middle."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from demo.servers import MariadbServer, mariadb_server
from demo.service import Service
from tests.service.conftest import everything


@pytest.fixture
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as started:
        started.run("CREATE DATABASE shop; CREATE USER shop@'127.0.0.1' IDENTIFIED BY 'canary-pw'")
        started.run("GRANT ALL ON shop.* TO shop@'127.0.0.1'")
        _owner(started, "CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'one')")
        _owner(started, "CREATE VIEW v AS SELECT x FROM t; CREATE TABLE big (x longtext)")
        yield started


def _owner(server: MariadbServer, sql: str) -> str:
    return server.run(sql, "shop", "shop", "canary-pw")


def _domain(service: Service, server: MariadbServer, **more: Any) -> dict[str, Any]:
    database = {
        "engine": "mariadb", "name": "shop", "username": "shop", "password": "canary-pw",
        "host": "127.0.0.1", "port": server.port, **more,
    }  # fmt: skip
    body = {"domain_name": "db.example.com", "databases": [database]}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


@pytest.mark.parametrize("admin", [True, False])
def test_backup_and_restore(service: Service, server: MariadbServer, admin: bool) -> None:
    more = {"admin_username": "admin", "admin_password": server.admin_password} if admin else {}
    backup = service.backup(_domain(service, server, **more), "database")
    assert backup["status"] == "completed", backup
    _owner(server, "UPDATE t SET x = 'damaged'; DROP VIEW v; CREATE TABLE newer (a int)")
    plan = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"dry_run": True}))
    expected = "scratch" if admin else "in_place_after_safety_copy"
    assert [part["mode"] for part in plan["result"]["components"]] == [expected]
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    assert _owner(server, "SELECT x FROM v; SHOW TABLES").split() == ["one", "big", "t", "v"]
    assert [b["id"] for b in service.call("GET", "/api/backups")["data"]] == [backup["id"]]
    stored = [path for path in service.folder.rglob("*.sql.zst*") if path.is_file()]
    assert len(stored) == 1
    assert b"canary-pw" not in everything(service)
    assert server.admin_password.encode() not in everything(service)


def test_a_restore_in_place_that_fails_puts_the_safety_copy_back(service: Service, server: MariadbServer) -> None:
    domain = _domain(service, server)
    backup = service.backup(domain, "database")
    _owner(server, "UPDATE t SET x = 'newer'")
    server.run("REVOKE CREATE VIEW ON shop.* FROM shop@'127.0.0.1'")
    _owner(server, "DROP VIEW v")
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "failed"
    assert "put back from its safety copy" in ended["error_message"]
    assert _owner(server, "SELECT x FROM t") == "newer"
    assert [b["id"] for b in service.call("GET", "/api/backups")["data"]] == [backup["id"]]


@pytest.mark.parametrize("admin", [True, False])
def test_a_restore_goes_on_after_kill_9(service: Service, server: MariadbServer, admin: bool) -> None:
    """While it waits for a table that the site reads; what it had begun, the server goes on with."""
    more = {"admin_username": "admin", "admin_password": server.admin_password} if admin else {}
    backup = service.backup(_domain(service, server, **more), "database")
    _owner(server, "UPDATE t SET x = 'newer'; DROP VIEW v; CREATE TABLE newer (a int)")
    with _reading(server, "t"):
        started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={})
        _seen(server, "RENAME TABLE%" if admin else "DROP TABLE%")
        service.kill()
    service.start()
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert _owner(server, "SELECT x FROM v; SHOW TABLES").split() == ["one", "big", "t", "v"]
    assert [b["id"] for b in service.call("GET", "/api/backups")["data"]] == [backup["id"]]
    assert "liberu" not in server.run("SHOW DATABASES; SELECT user, db FROM mysql.db; SELECT user FROM mysql.user")


@contextmanager
def _reading(server: MariadbServer, table: str) -> Iterator[None]:
    """A transaction of the site that has read a table: nobody may change or drop it until it is over."""
    argv = ["mariadb", "-h127.0.0.1", f"-P{server.port}", "-ushop", "-pcanary-pw", "shop"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        reader.stdin.write(f"BEGIN; SELECT COUNT(*) FROM {table}; DO SLEEP(500);\n")
        reader.stdin.flush()
        _seen(server, "DO SLEEP%")
        try:
            yield
        finally:
            found = server.run("SELECT id FROM information_schema.processlist WHERE info LIKE 'DO SLEEP%'")
            server.run(f"KILL {found}")
            reader.kill()


def _seen(server: MariadbServer, statement: str) -> None:
    sql = f"SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{statement}'"
    Service.until(lambda: server.run(sql), lambda found: found != "0")


def test_a_wrong_password_fails_and_names_the_database(service: Service, server: MariadbServer) -> None:
    backup = service.backup(_domain(service, server, password="wrong"), "database")
    assert backup["status"] == "failed"
    assert "MySQL database shop: access denied to shop" in backup["error_message"]
