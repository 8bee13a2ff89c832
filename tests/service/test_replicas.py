"""Several processes of the service on one PostgreSQL: whatever happens to one, each operation is done, once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from demo.servers import PostgresqlServer
from demo.service import Service
from tests.service.cluster import LEASE, Cluster, backup, cluster, moving, server

__all__ = ["cluster", "server"]  # fixtures


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
    cluster.restorable(survivor, started)


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
        cluster.restorable(survivor, operation)
    paused.start()  # as whoever watches over it does
    assert backup(paused, domain, destination)


def test_postgresql_goes_away_for_a_while(folder: Path, server: PostgresqlServer) -> None:
    cluster = Cluster(folder, server)
    try:
        for _ in range(2):
            cluster.add(LIBERU_JOBS__LEASE_SECONDS="30")
        domain, destination = cluster.site(size=24 << 20), cluster.destination()
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
        cluster.restorable(cluster.members[1], started)
    finally:
        cluster.stop()
