"""A full backup: files and a PostgreSQL database together, under an encrypted destination."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.sample_files import differences, snapshot
from demo.servers import PostgresqlServer, postgresql_server
from demo.service import Service
from tests.service.conftest import everything


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        started.run("CREATE ROLE shop LOGIN PASSWORD 'canary-pw'")
        started.run("CREATE DATABASE shop OWNER shop")
        started.run(
            "CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t VALUES (1, 'one')",
            "shop",
            "shop",
            "canary-pw",
        )
        yield started


def test_files_and_a_database(service: Service, site: Path, server: PostgresqlServer) -> None:
    database = {
        "engine": "postgresql", "name": "shop", "username": "shop", "password": "canary-pw",
        "host": "127.0.0.1", "port": server.port,
    }  # fmt: skip
    body = {"domain_name": "full.example.com", "document_root": str(site), "databases": [database]}
    domain = service.call("POST", "/api/domains", 201, json=body)
    before = snapshot(site)
    backup = service.backup(domain, "full")
    assert backup["status"] == "completed", backup
    assert [(c["kind"], c["name"]) for c in backup["components"]] == [("files", "files"), ("postgresql", "shop")]
    (site / "large.bin").unlink()
    server.run("UPDATE t SET x = 'damaged'; CREATE TABLE newer (id int REFERENCES t)", "shop", "shop", "canary-pw")
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    assert server.run("SELECT x FROM t", "shop") == "one"
    assert server.run("SELECT to_regclass('newer') IS NULL", "shop") == "t"
    assert b"canary-pw" not in everything(service)
    assert "canary-pw" not in json.dumps(service.call("GET", f"/api/domains/{domain['id']}"))


def test_a_wrong_password_is_partial_and_names_the_database(
    service: Service, site: Path, server: PostgresqlServer
) -> None:
    database = {
        "engine": "postgresql", "name": "shop", "username": "shop", "password": "wrong",
        "host": "127.0.0.1", "port": server.port,
    }  # fmt: skip
    body = {"domain_name": "full.example.com", "document_root": str(site), "databases": [database]}
    backup = service.backup(service.call("POST", "/api/domains", 201, json=body), "full")
    assert backup["status"] == "partial"
    assert "PostgreSQL database shop: access denied to shop" in backup["error_message"]
    only = service.backup(service.call("GET", "/api/domains")["data"][0], "database")
    assert only["status"] == "failed"


def test_files_are_read_only_after_the_databases_snapshot_is_open(
    service: Service, site: Path, server: PostgresqlServer
) -> None:
    database = {
        "engine": "postgresql", "name": "shop", "username": "shop", "password": "canary-pw",
        "host": "127.0.0.1", "port": server.port,
    }  # fmt: skip
    body = {"domain_name": "full.example.com", "document_root": str(site), "databases": [database]}
    domain = service.call("POST", "/api/domains", 201, json=body)
    with server.locked("t", "shop"):
        started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "full"})
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'shop'"
        service.until(lambda: server.run(waiting), lambda count: count == "1")
        states = service.until(
            lambda: service.call("GET", f"/api/operations/{started['id']}")["progress"],
            lambda progress: any(part["state"] == "running" for part in progress.values()),
        )
        assert {part["name"]: part["state"] for part in states.values()} == {"files": "pending", "shop": "running"}
    assert service.wait(started)["status"] == "completed"
