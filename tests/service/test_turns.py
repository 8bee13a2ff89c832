"""Whose turn it is, through the API: limits, priorities, fairness, quotas, servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.sizes import human_size
from demo.servers import PostgresqlServer
from demo.service import Service
from tests.service.cluster import Cluster, server
from tests.service.conftest import SITE_UID

__all__ = ["server"]  # a fixture
SLOW = 2 << 20


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """One operation at a time, and one restore beside it."""
    made = Service(folder, LIBERU_JOBS__CONCURRENCY="1", LIBERU_JOBS__DISPATCH_SECONDS="0.2")
    made.start()
    yield made
    made.stop()


def site(service: Service, name: str, user_id: int = 7, size: int = 1000, **more: Any) -> dict[str, Any]:
    root = service.folder / "sites" / name
    root.mkdir(parents=True)
    (root / "large.bin").write_bytes(os.urandom(size))
    if os.geteuid() == 0:
        os.chown(root, SITE_UID, SITE_UID)
    body = {"domain_name": name, "user_id": user_id, "document_root": str(root), **more}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


def place(service: Service, name: str, **more: Any) -> dict[str, Any]:
    path = service.folder / name
    path.mkdir()
    body = {"name": name, "type": "local", "configuration": {"path": str(path)}, **more}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=body)
    return made


def backup(service: Service, domain: dict[str, Any], status: int = 202, **more: Any) -> dict[str, Any]:
    body = {"domain_id": domain["id"], "type": "files", **more}
    made: dict[str, Any] = service.call("POST", "/api/backups", status, json=body)
    return made


def begun(service: Service, operation: dict[str, Any]) -> None:
    Service.until(
        lambda: service.call("GET", f"/api/operations/{operation['id']}"), lambda found: found["bytes_done"] > 0
    )


def test_tenants_take_turns_and_a_restore_does_not_wait(service: Service) -> None:
    small = site(service, "small.example.com", user_id=9)
    good = service.wait(backup(service, small))
    slow = place(service, "slow", bandwidth=SLOW)
    busy = backup(service, site(service, "busy.example.com", size=3 * SLOW), destination_id=slow["id"])
    begun(service, busy)
    crowd = [backup(service, site(service, f"crowd{number}.example.com")) for number in range(4)]
    late = backup(service, site(service, "late.example.com", user_id=8))
    restore = service.call("POST", f"/api/backups/{good['backup_id']}/restore", 202, json={"clear_existing": False})
    assert (restore["priority"], busy["priority"]) == (0, 1)
    assert service.wait(restore)["status"] == "completed"
    assert service.call("GET", f"/api/operations/{busy['id']}")["status"] == "running", "the restore did not wait"
    ended = [service.wait(operation) for operation in [busy, *crowd, late]]
    assert [found["status"] for found in ended] == ["completed"] * 6
    order = [found["id"] for found in sorted(ended, key=lambda found: found["started_at"])]
    assert order.index(late["id"]) <= 3, "one or two of the others was its turn already"


def test_a_destination_and_a_tenant_have_limits(folder: Path) -> None:
    service = Service(folder, LIBERU_JOBS__CONCURRENCY="6")
    service.start()
    try:
        narrow = place(service, "narrow", operations=1)
        service.call("PUT", "/api/quotas/8", json={"operations": 2})
        started = [
            backup(service, site(service, f"a{number}.example.com"), destination_id=narrow["id"])
            for number in range(3)
        ]
        started += [backup(service, site(service, f"b{number}.example.com", user_id=8)) for number in range(5)]
        ended = [service.wait(operation) for operation in started]
        assert {found["status"] for found in ended} == {"completed"}
        assert at_once(ended[:3]) == 1
        assert at_once(ended[3:]) <= 2
    finally:
        service.stop()


def at_once(operations: list[dict[str, Any]]) -> int:
    edges = [(found["started_at"], 1) for found in operations] + [(found["finished_at"], -1) for found in operations]
    running = highest = 0
    for _, change in sorted(edges):
        running += change
        highest = max(highest, running)
    return highest


def test_quotas(service: Service) -> None:
    service.call("PUT", "/api/quotas/7", json={"on_demand_backups": 2})
    body = {"name": "tenant", "abilities": ["backups:create", "backups:read", "backups:delete"], "user_id": 7}
    tenant = service.call("POST", "/api/tokens", 201, json=body)["token"]
    domain = site(service, "shop.example.com", size=100_000)
    first = service.wait(backup(service, domain))
    service.wait(backup(service, domain))
    refused = backup(service, domain, 409)
    assert refused["code"] == "quota_exceeded"
    assert "may keep 2 backups on demand and has 2" in refused["detail"]
    shown = service.call("GET", "/api/quotas/7", token=tenant)
    assert shown["limits"] == {"stored_bytes": None, "on_demand_backups": 2, "operations": None}
    assert shown["used"]["on_demand_backups"] == 2
    assert shown["used"]["stored_bytes"] > 200_000
    service.call("GET", "/api/quotas/8", 404, token=tenant)
    service.call("PUT", "/api/quotas/7", 403, token=tenant, json={})
    service.call("GET", "/api/quotas", 403, token=tenant)
    service.call("DELETE", f"/api/backups/{first['backup_id']}", 204)
    service.wait(backup(service, domain))
    stored = service.call("GET", "/api/quotas/7")["used"]["stored_bytes"]
    service.call("PUT", "/api/quotas/7", json={"stored_bytes": stored + 50_000})
    refused = backup(service, domain, 409)
    assert refused["code"] == "quota_exceeded", "another one like the last does not fit"
    assert f"uses {human_size(stored)}" in refused["detail"]
    schedule = {"name": "nightly", "type": "files", "frequency": "daily", "domain_id": domain["id"]}
    made = service.call("POST", "/api/backup-schedules", 201, json=schedule)
    run = service.call("POST", f"/api/backup-schedules/{made['id']}/run", 202)
    assert [skipped["code"] for skipped in run["skipped"]] == ["quota_exceeded"]
    service.call("DELETE", "/api/quotas/7", 204)
    assert service.wait(backup(service, domain))["status"] == "completed"
    assert service.call("GET", "/api/quotas")["data"] == []


def test_a_site_is_backed_up_by_the_worker_on_its_server(folder: Path, server: PostgresqlServer) -> None:
    cluster = Cluster(folder, server)
    try:
        general = cluster.add()
        deployment = {"type": "standalone", "server": "web1"}
        domain = site(general, "bound.example.com", deployment=deployment)
        destination = cluster.destination(None)
        waits = backup(general, domain, destination_id=destination["id"])
        assert waits["server"] == "web1"
        assert general.wait(backup(general, site(general, "free.example.com")))["status"] == "completed"
        assert general.call("GET", f"/api/operations/{waits['id']}")["queued"] is False
        worker = cluster.add(LIBERU_JOBS__SERVER="web1", LIBERU_JOBS__ROLE="worker")
        assert general.wait(waits)["status"] == "completed"
        assert cluster.runner(waits) is worker
        worker.kill()
        again = backup(general, domain, destination_id=destination["id"])
        worker.start()
        assert general.wait(again)["status"] == "completed"
        bulk = {"backup_ids": [waits["backup_id"]], "clear_existing": False}
        assert (
            general.wait(general.call("POST", "/api/backups/bulk-restore", 202, json=bulk))["status"] == "completed"
        )
        refused = general.call("POST", f"/api/domains/{domain['id']}/detect-deployment", 502)
        assert refused["code"] == "wrong_server"
    finally:
        cluster.stop()
