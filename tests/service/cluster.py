"""Processes of the service on one PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.servers import PostgresqlServer, postgresql_server
from demo.service import Service
from tests.service.conftest import SITE_UID

LEASE = 4


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        started.run("CREATE DATABASE state")
        started.run("CREATE DATABASE engine")
        yield started


class Cluster:
    """Processes with a database and keys in common, and sites of this machine."""

    def __init__(self, folder: Path, server: PostgresqlServer) -> None:
        self.folder = folder
        self.server = server
        self.members: list[Service] = []

    def add(self, **env: str) -> Service:
        place = self.folder / f"process-{len(self.members)}"
        place.mkdir()
        where = f"admin:{self.server.admin_password}@127.0.0.1:{self.server.port}"
        shared = {
            "LIBERU_DATABASE__URL": f"postgresql+asyncpg://{where}/state",
            "LIBERU_DATABASE__ENGINE_URL": f"postgresql+psycopg://{where}/engine",
            "LIBERU_KEYS": str(self.folder / "keys"),
            "LIBERU_SITES__ROOTS": f'["{self.folder}"]',
            "LIBERU_JOBS__POLLING_SECONDS": "0.1",
            "LIBERU_JOBS__LEASE_SECONDS": str(LEASE),
        }
        made = Service(place, **(shared | env))
        made.start()
        made.token = made.token or self.members[0].token
        self.members.append(made)
        return made

    def site(self, name: str = "shop.example.com", size: int = 12 << 20) -> dict[str, Any]:
        root = self.folder / "site" / name
        root.mkdir(parents=True)
        (root / "large.bin").write_bytes(os.urandom(size))
        if os.geteuid() == 0:
            os.chown(root, SITE_UID, SITE_UID)
        body = {"domain_name": name, "user_id": 7, "document_root": str(root)}
        made: dict[str, Any] = self.members[0].call("POST", "/api/domains", 201, json=body)
        return made

    def destination(self, bandwidth: int | None = 2 << 20) -> dict[str, Any]:
        path = self.folder / "backups"
        path.mkdir()
        body = {"name": "shared", "type": "local", "configuration": {"path": str(path)}, "bandwidth": bandwidth}
        made: dict[str, Any] = self.members[0].call("POST", "/api/backup-destinations", 201, json=body)
        return made

    def restorable(self, member: Service, started: dict[str, Any]) -> None:
        """The destination has been slow enough."""
        place = member.call("GET", f"/api/backups/{started['backup_id']}")["destination_id"]
        path = {"path": str(self.folder / "backups")}
        body = {"name": "shared", "type": "local", "configuration": path, "bandwidth": None}
        member.call("PUT", f"/api/backup-destinations/{place}", json=body)
        for what in ("verify", "restore"):
            ended = member.wait(member.call("POST", f"/api/backups/{started['backup_id']}/{what}", 202, json={}))
            assert ended["status"] == "completed", ended

    def runner(self, operation: dict[str, Any]) -> Service:
        """The process in whose name an operation runs."""
        uid = self.server.run(f"SELECT uid FROM operations WHERE id = {operation['id']}", "state")
        query = f"SELECT executor_id FROM dbos.workflow_status WHERE workflow_uuid = '{uid}'"
        pid = int(self.server.run(query, "engine").rsplit("-", 2)[1])
        return next(member for member in self.members if member.alive and member.pid == pid)

    def others(self, than: Service) -> list[Service]:
        return [member for member in self.members if member is not than and member.alive]

    def manifests(self) -> list[Path]:
        return sorted((self.folder / "backups").rglob("manifest.json"))

    def stop(self) -> None:
        for member in self.members:
            member.stop()


@pytest.fixture
def cluster(folder: Path, server: PostgresqlServer) -> Iterator[Cluster]:
    made = Cluster(folder, server)
    try:
        for _ in range(3):
            made.add()
        yield made
    finally:
        made.stop()


def backup(member: Service, domain: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    body = {"domain_id": domain["id"], "type": "files", "destination_id": destination["id"]}
    started: dict[str, Any] = member.call("POST", "/api/backups", 202, json=body)
    return started


def moving(member: Service, operation: dict[str, Any]) -> dict[str, Any]:
    """Wait until it is in the middle of its work."""
    found: dict[str, Any] = Service.until(
        lambda: member.call("GET", f"/api/operations/{operation['id']}"), lambda found: found["bytes_done"] > 2 << 20
    )
    return found
