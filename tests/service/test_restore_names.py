"""Restores of databases into others, which are made where they are not there."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from demo.servers import MariadbServer, PostgresqlServer, mariadb_server, postgresql_server
from demo.service import Service
from tests.service.conftest import everything, stored

pytestmark = pytest.mark.timeout(240)

OWNER = 7
ROWS = {
    "mariadb": "INSERT INTO big SELECT REPEAT(MD5(seq), 1000) FROM seq_1_to_2000",
    "postgresql": "INSERT INTO big SELECT repeat(md5(g::text), 1000) FROM generate_series(1, 2000) g",
}


class Databases:
    """A server of either engine, with the database `shop` of the account `shop`."""

    def __init__(self, server: MariadbServer | PostgresqlServer) -> None:
        self.server = server
        self.engine = "mariadb" if isinstance(server, MariadbServer) else "postgresql"

    def begin(self) -> None:
        for name in ("shop", "staging"):
            self.make(name)
        self.owner("CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'saved')")
        self.owner("CREATE VIEW v AS SELECT x FROM t; CREATE TABLE big (x text)")

    @property
    def mysql(self) -> bool:
        return self.engine == "mariadb"

    def make(self, name: str) -> None:
        if self.mysql:
            self.server.run(f"CREATE DATABASE {name}; CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'canary-pw'")
            self.server.run(f"GRANT ALL ON {name}.* TO {name}@'127.0.0.1'")
        else:
            self.server.run(f"CREATE ROLE {name} LOGIN PASSWORD 'canary-pw'")
            self.server.run(f"CREATE DATABASE {name} OWNER {name}")

    def owner(self, sql: str, name: str = "shop") -> str:
        return self.server.run(sql, name, name, "canary-pw")

    def there(self) -> set[str]:
        """Databases and accounts."""
        if self.mysql:
            return set(self.server.run("SHOW DATABASES; SELECT User FROM mysql.user").split())
        return set(self.server.run("SELECT datname FROM pg_database; SELECT rolname FROM pg_roles").split())

    def setting(self, name: str = "shop", **more: Any) -> dict[str, Any]:
        return {
            "engine": self.engine, "name": name, "username": name, "password": "canary-pw", "host": "127.0.0.1",
            "port": self.server.port, "admin_username": "admin", "admin_password": self.server.admin_password, **more,
        }  # fmt: skip


@pytest.fixture(scope="module", params=["mariadb", "postgresql"])
def servers(request: pytest.FixtureRequest) -> Iterator[MariadbServer | PostgresqlServer]:
    with mariadb_server() if request.param == "mariadb" else postgresql_server() as started:
        yield started


@pytest.fixture
def databases(servers: MariadbServer | PostgresqlServer) -> Iterator[Databases]:
    made = Databases(servers)
    system = made.there()
    made.begin()
    yield made
    for name in sorted(made.there() - system):
        if made.mysql:
            servers.run(f"DROP DATABASE IF EXISTS `{name}`")
            for host in servers.run(f"SELECT Host FROM mysql.user WHERE User = '{name}'").split():
                servers.run(f"DROP USER `{name}`@'{host}'")
        else:
            servers.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    if not made.mysql:
        for name in sorted(made.there() - system):
            servers.run(f'DROP ROLE "{name}"')


def _domain(service: Service, name: str, *databases: dict[str, Any]) -> dict[str, Any]:
    body = {"domain_name": name, "user_id": OWNER, "databases": databases}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


def _backup(service: Service, databases: Databases, *more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    domain = _domain(service, "shop.example.com", databases.setting(), *more)
    backup = service.backup(domain, "database")
    assert backup["status"] == "completed", backup
    databases.owner("UPDATE t SET x = 'live'")
    return domain, backup


def _restore(service: Service, backup: dict[str, Any], expect: int = 202, **body: Any) -> dict[str, Any]:
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", expect, json=body)
    return service.wait(started) if expect == 202 else started


def test_a_staging_restore_needs_no_database_of_the_live_name(service: Service, databases: Databases) -> None:
    _, backup = _backup(service, databases)
    staging = _domain(service, "staging.example.com", databases.setting("staging"))
    ended = _restore(service, backup, target_domain_id=staging["id"], databases={"shop": "staging"})
    assert ended["status"] == "completed", ended
    [part] = ended["result"]["components"]
    assert (part["name"], part["database"]) == ("shop", "staging")
    assert databases.owner("SELECT x FROM v", "staging") == "saved"
    assert databases.owner("SELECT x FROM v") == "live"
    refused = _restore(service, backup, target_domain_id=staging["id"])
    assert "has no" in refused["error_message"]


def test_a_database_is_made_and_its_password_told_once(service: Service, databases: Databases) -> None:
    domain, backup = _backup(service, databases)
    wanted: dict[str, Any] = {"databases": {"shop": "shop_copy%"}, "create": True}
    before = databases.there()
    plan = _restore(service, backup, dry_run=True, **wanted)
    [part] = plan["result"]["components"]
    assert (part["database"], part["mode"]) == ("shop_copy%", "create")
    assert part["creates"] == {"database": True, "account": True}
    assert databases.there() == before
    ended = _restore(service, backup, **wanted)
    assert ended["status"] == "completed", ended
    [part] = ended["result"]["components"]
    assert databases.there() == before | {"shop_copy%", part["created"]["username"]}
    told = service.call("POST", f"/api/operations/{ended['id']}/accounts")
    [account] = told["accounts"]
    assert (account["database"], account["username"]) == ("shop_copy%", part["created"]["username"])
    assert service.call("POST", f"/api/operations/{ended['id']}/accounts", 404)["code"] == "not_found"
    found = databases.server.run("SELECT x FROM v", "shop_copy%", account["username"], account["password"])
    assert (found, databases.owner("SELECT x FROM v")) == ("saved", "live")
    assert account["password"].encode() not in everything(service)
    service.until(lambda: service.call("GET", f"/api/domains/{domain['id']}/remains"), lambda found: found == [])
    with pytest.raises(AssertionError):  # it reaches nothing else
        databases.server.run("SELECT x FROM t", "shop", account["username"], account["password"])
    again = service.backup(domain, "database")
    assert {part["name"] for part in again["components"]} == {"shop", "shop_copy%"}
    assert again["status"] == "completed", again
    assert _restore(service, backup, **wanted)["status"] == "completed"  # into the one that is there by now


def test_what_the_setting_names_is_made(service: Service, databases: Databases) -> None:
    """A domain that is to get its first database."""
    _, backup = _backup(service, databases)
    entry = databases.setting("fresh", password="chosen-pw")
    staging = _domain(service, "staging.example.com", entry)
    ended = _restore(service, backup, target_domain_id=staging["id"], databases={"shop": "fresh"}, create=True)
    assert ended["status"] == "completed", ended
    assert databases.server.run("SELECT x FROM v", "fresh", "fresh", "chosen-pw") == "saved"
    service.call("POST", f"/api/operations/{ended['id']}/accounts", 404)  # whoever chose it knows it


def test_what_must_not_be_written_is_refused(service: Service, databases: Databases) -> None:
    _, backup = _backup(service, databases, databases.setting("staging"))
    _domain(service, "other.example.com", databases.setting("others"))
    databases.make("strangers")
    before = databases.there()

    def refused(status: int, code: str, says: str, **body: Any) -> None:
        problem = _restore(service, backup, status, **body)
        assert (problem["code"], says in problem["detail"]) == (code, True), problem

    refused(422, "invalid_request", "no database sohp", databases={"sohp": "staging"})
    refused(422, "invalid_request", "has no", databases={"shop": "nowhere"})
    refused(422, "invalid_request", "Two databases", databases={"shop": "staging"})
    refused(409, "domain_overlap", "other.example.com", databases={"shop": "others"}, create=True)
    for name in ("mysql", "Information_Schema", "template1", "liberu-new-1", " blank"):
        refused(422, "invalid_request", "can be made", databases={"shop": name}, create=True)
    for name in ("", "x" * 65, "new\nline", "zero\0byte"):
        assert _restore(service, backup, 422, databases={"shop": name}, create=True)["code"] == "validation_failed"
    taken = _restore(service, backup, databases={"shop": "strangers"}, create=True)
    assert "is left as it is" in taken["error_message"]
    token = {"name": "tenant", "abilities": ["*"], "user_id": OWNER}
    tenant = service.call("POST", "/api/tokens", 201, json=token)["token"]
    path = f"/api/backups/{backup['id']}/restore"
    body = {"databases": {"shop": "copy"}, "create": True}
    assert service.call("POST", path, 403, tenant, json=body)["code"] == "forbidden"
    assert databases.there() == before


def test_a_restore_that_fails_takes_back_what_it_made(service: Service, databases: Databases) -> None:
    domain, backup = _backup(service, databases)
    [archive] = [path for path in stored(service.folder / "data" / "backups") if "01-" in path.name]
    content = bytearray(archive.read_bytes())
    content[-40] ^= 1
    archive.write_bytes(content)
    before = databases.there()
    ended = _restore(service, backup, databases={"shop": "copy"}, create=True)
    assert ended["status"] == "failed"
    assert "were removed again" in ended["error_message"]
    assert databases.there() == before
    assert [one["name"] for one in service.call("GET", f"/api/domains/{domain['id']}")["databases"]] == ["shop"]
    service.call("POST", f"/api/operations/{ended['id']}/accounts", 404)


@pytest.mark.parametrize("end", ["kill", "cancel"])
def test_a_restore_that_is_cut_short(service: Service, databases: Databases, end: str) -> None:
    """Killed: it goes on. Cancelled: nothing is left of it."""
    databases.owner(ROWS[databases.engine])
    domain, backup = _backup(service, databases)
    before = databases.there()
    body = {"databases": {"shop": "copy"}, "create": True}
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body)
    deadline = time.monotonic() + 30
    while "copy" not in databases.there():
        assert time.monotonic() < deadline
    if end == "kill":
        service.kill()
        service.start()
    else:
        service.call("POST", f"/api/operations/{started['id']}/cancel")
    ended = service.wait(started)
    left = databases.there() - before
    entries = [one["name"] for one in service.call("GET", f"/api/domains/{domain['id']}")["databases"]]
    if end == "cancel":
        assert (ended["status"], left, entries) == ("cancelled", set(), ["shop"])
        return
    assert ended["status"] == "completed", ended
    [account] = service.call("POST", f"/api/operations/{ended['id']}/accounts")["accounts"]
    assert left == {"copy", account["username"]}
    assert entries == ["shop", "copy"]
    count = databases.server.run("SELECT count(*) FROM big", "copy", account["username"], account["password"])
    assert (count, databases.owner("SELECT x FROM v")) == ("2000", "live")


def test_what_cannot_be_taken_back_now_is_tried_again(service: Service, databases: Databases) -> None:
    """The administrator's right to drop is gone when the restore fails."""
    if not databases.mysql:
        pytest.skip("roles of PostgreSQL drop what they made")
    databases.server.run("CREATE USER maker@'%' IDENTIFIED BY 'maker-pw'")
    databases.server.run("GRANT ALL ON *.* TO maker@'%' WITH GRANT OPTION; REVOKE DROP ON *.* FROM maker@'%'")
    domain = _domain(
        service,
        "shop.example.com",
        databases.setting(admin_username="maker", admin_password="maker-pw"),
    )
    backup = service.backup(domain, "database")
    ended = _restore(service, backup, databases={"shop": "copy"}, create=True)
    assert ended["status"] == "failed"
    assert "it is tried again" in ended["error_message"], ended
    left = service.call("GET", f"/api/domains/{domain['id']}/remains")
    assert {one["name"] for one in left} == {"copy", "shop"}, "and the scratch database of the backup's proof"
    databases.server.run("GRANT DROP ON *.* TO maker@'%'")
    with closing(sqlite3.connect(service.folder / "data" / "liberu.db", timeout=30)) as state, state:
        state.execute("UPDATE restore_remains SET due_at = '2026-01-01 00:00:00.000000'")
    service.backup(domain, "database")  # sees to what is due first
    assert service.call("GET", f"/api/domains/{domain['id']}/remains") == []
    assert "copy" not in databases.there()


def test_a_bulk_restore_makes_one_for_each_domain(service: Service, databases: Databases) -> None:
    databases.make("second")
    databases.owner("CREATE TABLE t (x int)", "second")
    backups = []
    for name, database in (("a.example.com", "shop"), ("b.example.com", "second")):
        domain = _domain(service, name, databases.setting(database))
        backups.append(service.backup(domain, "database"))
    body = {
        "backup_ids": [backup["id"] for backup in backups], "create": True,
        "databases": {"shop": "shop_copy", "second": "second_copy"},
    }  # fmt: skip
    wrong = {**body, "databases": {"shop": "shop_copy", "secnod": "second_copy"}}
    assert "secnod" in service.call("POST", "/api/backups/bulk-restore", 422, json=wrong)["detail"]
    ended = service.wait(service.call("POST", "/api/backups/bulk-restore", 202, json=body))
    assert ended["status"] == "completed", ended
    for detail, name in zip(ended["result"]["details"], ("shop_copy", "second_copy"), strict=True):
        [account] = service.call("POST", f"/api/operations/{detail['operation_id']}/accounts")["accounts"]
        databases.server.run("SELECT * FROM t", name, account["username"], account["password"])
