"""Several processes of the service on one PostgreSQL: whatever happens to one, each operation is done, once."""

from __future__ import annotations

import os
import signal
import time
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


def restorable(member: Service, started: dict[str, Any]) -> None:
    verified = member.wait(member.call("POST", f"/api/backups/{started['backup_id']}/verify", 202))
    assert verified["status"] == "completed", verified
    restored = member.wait(member.call("POST", f"/api/backups/{started['backup_id']}/restore", 202, json={}))
    assert restored["status"] == "completed", restored


def test_a_killed_process_is_taken_over_from(cluster: Cluster) -> None:
    domain, destination = cluster.site(), cluster.destination()
    started = backup(cluster.members[0], domain, destination)
    moving(cluster.members[0], started)
    killed = cluster.runner(started)
    killed.kill()
    survivor = cluster.others(killed)[0]
    Service.until(
        lambda: survivor.call("GET", f"/api/operations/{started['id']}"),
        lambda found: found["attempt"] == 2,
        seconds=LEASE + 5,
    )
    ended = survivor.wait(started)
    assert (ended["status"], ended["attempt"]) == ("completed", 2), ended
    assert len(cluster.manifests()) == 1
    restorable(survivor, started)


def test_a_paused_process_publishes_nothing_when_it_wakes_up(cluster: Cluster) -> None:
    domain, destination = cluster.site(), cluster.destination()
    first = backup(cluster.members[0], domain, destination)
    assert cluster.members[0].wait(first)["status"] == "completed"
    started = backup(cluster.members[0], domain, destination)
    moving(cluster.members[0], started)
    paused = cluster.runner(started)
    paused.signal(signal.SIGSTOP)
    try:
        survivor = cluster.others(paused)[0]
        ended = survivor.wait(started)
        assert (ended["status"], ended["attempt"]) == ("completed", 2), ended
        time.sleep(max(0, 3 * LEASE - 10))  # three leases in all, most of them spent above
    finally:
        paused.signal(signal.SIGCONT)
    Service.until(lambda: paused.alive, lambda alive: not alive, seconds=40)
    assert len(cluster.manifests()) == 2, "one of each backup"
    again = survivor.call("GET", f"/api/operations/{started['id']}")
    assert (again["status"], again["attempt"]) == ("completed", 2)
    for operation in (first, started):
        restorable(survivor, operation)
    paused.start()  # as whoever watches over it does
    assert backup(paused, domain, destination)


def test_postgresql_goes_away_for_a_while(folder: Path, server: PostgresqlServer) -> None:
    cluster = Cluster(folder, server)
    try:
        for _ in range(2):
            cluster.add(LIBERU_JOBS__LEASE_SECONDS="30")
        domain, destination = cluster.site(size=40 << 20), cluster.destination()
        other = cluster.site("other.example.com", size=1 << 20)
        started = backup(cluster.members[0], domain, destination)
        moving(cluster.members[0], started)
        server.stop()
        time.sleep(20)
        server.start()
        ended = cluster.members[0].wait(started, 120)
        assert ended["status"] == "completed", ended
        assert cluster.members[1].wait(backup(cluster.members[1], other, destination))["status"] == "completed"
        assert len(cluster.manifests()) == 2
        assert all(member.alive for member in cluster.members)
        restorable(cluster.members[1], started)
    finally:
        cluster.stop()


def test_a_process_that_is_stopped_hands_over(cluster: Cluster) -> None:
    """As in a rolling deploy: others need not wait for the lease."""
    domain, destination = cluster.site(), cluster.destination()
    started = backup(cluster.members[0], domain, destination)
    moving(cluster.members[0], started)
    leaving = cluster.runner(started)
    leaving.stop()
    survivor = cluster.others(leaving)[0]
    ended = survivor.wait(started)
    assert (ended["status"], ended["attempt"]) == ("completed", 2), ended
    assert len(cluster.manifests()) == 1
    restorable(survivor, started)


def test_roles(folder: Path, server: PostgresqlServer) -> None:
    cluster = Cluster(folder, server)
    try:
        api = cluster.add(LIBERU_JOBS__ROLE="api")
        domain, destination = cluster.site(size=1 << 20), cluster.destination(None)
        started = backup(api, domain, destination)
        time.sleep(2)
        assert api.call("GET", f"/api/operations/{started['id']}")["status"] == "pending", "nobody takes it"
        worker = cluster.add(LIBERU_JOBS__ROLE="worker")
        assert api.wait(started)["status"] == "completed"
        worker.call("GET", "/api/operations", 404)
        worker.call("GET", "/health/live")
    finally:
        cluster.stop()


def test_processes_with_other_keys_do_not_start(folder: Path, server: PostgresqlServer) -> None:
    cluster = Cluster(folder, server)
    try:
        cluster.add()
        with pytest.raises(AssertionError, match="belong to another installation"):
            cluster.add(LIBERU_KEYS=str(folder / "others"))
    finally:
        cluster.stop()


JOBS = int(os.environ.get("REPLICA_JOBS", "150"))


def test_a_rolling_restart_under_load(cluster: Cluster) -> None:
    """Each process is stopped and started while all of them are busy: nothing is lost, nothing is done twice."""
    destination = cluster.destination(None)
    domains = [cluster.site(f"site{number}.example.com", size=10_000) for number in range(JOBS)]
    started = [backup(cluster.members[number % 3], domain, destination) for number, domain in enumerate(domains)]
    for member in cluster.members:
        member.stop()
        member.start()
    first = cluster.members[0]
    ended = [first.wait(operation, 300) for operation in started]
    assert [found["status"] for found in ended] == ["completed"] * JOBS
    stored = cluster.manifests()
    assert len(stored) == len({path.parent.parent for path in stored}) == JOBS
    assert first.call("GET", "/api/backups/stats")["completed_backups"] == JOBS
    counted = cluster.server.run("SELECT status, count(*) FROM dbos.workflow_status GROUP BY 1", "engine")
    assert counted == f"SUCCESS|{JOBS}", "the engine has nothing left"


def test_a_schedule_is_started_once_by_all_of_them(folder: Path, server: PostgresqlServer) -> None:
    """More domains than one batch holds; processes that ask all the time."""
    cluster = Cluster(folder, server)
    try:
        for _ in range(3):
            cluster.add(LIBERU_SCHEDULES__TICK_SECONDS="0.1")
        destination, first = cluster.destination(None), cluster.members[0]
        for number in range(120):
            cluster.site(f"site{number}.example.com", size=10)
        body: dict[str, Any] = {
            "name": "all",
            "type": "files",
            "frequency": "daily",
            "user_id": 7,
            "destination_id": destination["id"],
        }
        schedule = first.call("POST", "/api/backup-schedules", 201, json=body)
        server.run("UPDATE backup_schedules SET due_at = now(), starts_at = now()", "state")
        where = f"/api/backup-schedules/{schedule['id']}/runs"
        [run] = Service.until(
            lambda: first.call("GET", where)["data"],
            lambda found: bool(found) and found[0]["operations"].get("completed") == 120,
            seconds=90,
        )
        assert (run["operations"], run["skipped"]) == ({"completed": 120}, [])
        assert len(cluster.manifests()) == 120
    finally:
        cluster.stop()


def test_what_was_recorded_and_never_queued_is_found(folder: Path, server: PostgresqlServer) -> None:
    """As when a process dies between its commit and its queueing."""
    cluster = Cluster(folder, server)
    try:
        api = cluster.add(LIBERU_JOBS__ROLE="api")
        worker = cluster.add(LIBERU_JOBS__ROLE="worker", LIBERU_JOBS__RECONCILE_SECONDS="1")
        domain, destination = cluster.site(size=10), cluster.destination(None)
        worker.signal(signal.SIGSTOP)
        started = backup(api, domain, destination)
        server.run("DELETE FROM dbos.workflow_status", "engine")
        worker.signal(signal.SIGCONT)
        assert api.wait(started)["status"] == "completed"
    finally:
        cluster.stop()
