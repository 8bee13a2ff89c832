"""Cancelling what runs: the command ends, wherever it runs, what was stored goes, then the domain is free."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from demo.servers import mariadb_server
from demo.service import Service
from demo.ssh_servers import ssh_host
from tests.service.conftest import SITE_UID, stored


def commands(*words: str) -> list[list[str]]:
    """Processes of this machine that were started with all of these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            argv = [part.decode(errors="replace") for part in path.read_bytes().split(b"\0")]
            if all(any(word in part for part in argv) for word in words):
                found.append(argv)
    return found


def slow(service: Service) -> dict[str, Any]:
    (service.folder / "slow").mkdir()
    where = {"path": str(service.folder / "slow")}
    body = {"name": "slow", "type": "local", "configuration": where, "bandwidth": 1 << 19}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=body)
    return made


@pytest.mark.parametrize("place", ["standalone", "ssh"])
def test_a_running_dump_of_files(service: Service, site: Path, place: str) -> None:
    large = site / "big.bin"
    large.write_bytes(os.urandom(64 << 20))
    os.chown(large, SITE_UID if os.geteuid() == 0 else -1, -1)
    body: dict[str, Any] = {"domain_name": "shop.example.com", "document_root": str(site)}
    with ExitStack() as stack:
        if place == "ssh":
            body["deployment"] = stack.enter_context(ssh_host(sudo=False)).configuration
        _cancelled(service, service.call("POST", "/api/domains", 201, json=body), "files", "tar", "--create")


def test_a_running_dump_of_a_database(service: Service) -> None:
    with mariadb_server() as server:
        server.run("CREATE DATABASE shop")
        server.run("CREATE TABLE t (x longtext)", "shop")
        for _ in range(6):
            server.run("INSERT INTO t SELECT HEX(RANDOM_BYTES(1000)) FROM seq_1_to_8000", "shop")
        database = {
            "engine": "mariadb", "name": "shop", "username": "admin", "password": server.admin_password,
            "host": "127.0.0.1", "port": server.port,
        }  # fmt: skip
        body = {"domain_name": "db.example.com", "databases": [database]}
        domain = service.call("POST", "/api/domains", 201, json=body)
        _cancelled(service, domain, "database", "mariadb-dump", "shop")


def _cancelled(service: Service, domain: dict[str, Any], type: str, *command: str) -> None:
    destination = slow(service)
    older = service.backup(domain, type)
    assert older["status"] == "completed", older
    body = {"domain_id": domain["id"], "type": type, "destination_id": destination["id"]}
    started = service.call("POST", "/api/backups", 202, json=body)
    service.until(lambda: service.call("GET", f"/api/operations/{started['id']}")["bytes_done"], bool)
    assert commands(*command), "it is dumping"
    assert service.call("POST", "/api/backups", 409, json=body)["code"] == "already_running"
    waits = service.call("POST", f"/api/backups/{older['id']}/restore", 202, json={"clear_existing": False})
    service.call("POST", f"/api/operations/{started['id']}/cancel")
    ended = service.wait(started, pause=0.01)
    assert (ended["status"], commands(*command)) == ("cancelled", []), "ended only when the command has"
    assert stored(service.folder / "slow") == []
    restored = service.wait(waits)
    assert restored["started_at"] >= ended["finished_at"], "the domain was free then, not before"
    assert service.call("GET", f"/api/backups/{started['backup_id']}")["status"] == "cancelled"
    again = service.backup(domain, type)
    assert again["status"] == "completed", again


def test_what_waits_is_cancelled_at_once(service: Service, domain: dict[str, Any], site: Path) -> None:
    (site / "big.bin").write_bytes(os.urandom(16 << 20))
    older = service.backup(domain)
    body = {"domain_id": domain["id"], "type": "files", "destination_id": slow(service)["id"]}
    running = service.call("POST", "/api/backups", 202, json=body)
    waits = service.call("POST", f"/api/backups/{older['id']}/restore", 202, json={"clear_existing": True})
    assert service.call("POST", f"/api/operations/{waits['id']}/cancel")["status"] == "cancelled"
    service.call("POST", f"/api/operations/{waits['id']}/cancel", 409)
    service.call("POST", f"/api/operations/{running['id']}/cancel")
    assert service.wait(running)["status"] == "cancelled"
    assert service.call("GET", f"/api/operations/{waits['id']}")["started_at"] is None


def test_a_backup_that_waits_is_cancelled_with_its_operation(
    service: Service, domain: dict[str, Any], site: Path
) -> None:
    (site / "big.bin").write_bytes(os.urandom(16 << 20))
    body = {"domain_id": domain["id"], "destination_id": slow(service)["id"]}
    running = service.call("POST", "/api/backups", 202, json=body | {"type": "files"})
    waits = service.call("POST", "/api/backups", 202, json=body | {"type": "full"})
    assert service.call("POST", f"/api/operations/{waits['id']}/cancel")["status"] == "cancelled"
    ended = service.call("GET", f"/api/backups/{waits['backup_id']}")
    assert (ended["status"], ended["completed_at"] is None) == ("cancelled", False)
    service.call("POST", f"/api/operations/{running['id']}/cancel")
    assert service.wait(running)["status"] == "cancelled"
