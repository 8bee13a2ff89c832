"""Several processes on one PostgreSQL: deploys, roles, schedules."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from demo.servers import PostgresqlServer
from demo.service import Service
from tests import sampling
from tests.service.cluster import Cluster, backup, cluster, moving, server

__all__ = ["cluster", "server"]  # fixtures


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
    cluster.restorable(survivor, started)


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


JOBS = 500 if sampling.whole() else 100


@pytest.mark.sweep
@pytest.mark.timeout(400)
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
