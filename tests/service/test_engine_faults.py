"""What fails between an operation's row and the engine: nothing is left behind until somebody restarts."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from demo.service import Service
from tests.service.conftest import SITE_UID
from tests.service.test_cancel import slow
from tests.service.test_crash import big, hold, kill_with

#: As whatever fails in a database may: not an outage, which is waited for.
REFUSED = "BEGIN SELECT RAISE(ABORT, 'refused'); END"


def change(service: Service, file: str, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(service.folder / "data" / file, timeout=30)) as database, database:
        database.execute(sql, values)


@contextmanager
def refusing(service: Service, file: str, when: str) -> Iterator[None]:
    change(service, file, f"CREATE TRIGGER refusing {when} {REFUSED}")
    yield
    change(service, file, "DROP TRIGGER refusing")


def shown(service: Service, operation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.call("GET", f"/api/operations/{operation['id']}")
    return found


def manifests(folder: Path) -> list[Path]:
    return sorted(folder.rglob("manifest.json"))


def test_what_could_not_be_queued_is_queued_soon(service: Service, domain: dict[str, Any]) -> None:
    with refusing(service, "engine.db", "BEFORE INSERT ON workflow_status"):
        started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
        queue = "SELECT queue FROM operations WHERE id = ?"
        with closing(sqlite3.connect(service.folder / "data/liberu.db")) as database:
            service.until(lambda: database.execute(queue, (started["id"],)).fetchone()[0], bool)
        service.until((service.folder / "service.log").read_text, lambda log: "queue" in log)
    assert service.wait(started)["status"] == "completed"


def test_what_was_taken_and_never_begun_is_begun(service: Service, domain: dict[str, Any], site: Path) -> None:
    """As when a queue's thread fails between the two."""
    service.stop()
    service.env["LIBERU_JOBS__RECONCILE_SECONDS"] = "1"  # a minute, else
    service.start()
    place, waiting = slow(service), []
    (site / "big.bin").write_bytes(os.urandom(4 << 20))
    body = {"domain_id": domain["id"], "type": "files", "destination_id": place["id"]}
    running = [service.call("POST", "/api/backups", 202, json=body)]
    for number in range(2):
        root = site.parent / f"other{number}"
        root.mkdir()
        os.chown(root, SITE_UID if os.geteuid() == 0 else -1, -1)
        other = {"domain_name": f"other{number}.example.com", "user_id": 7, "document_root": str(root)}
        made = service.call("POST", "/api/domains", 201, json=other)
        waiting.append(service.call("POST", "/api/backups", 202, json=body | {"domain_id": made["id"]}))
    with closing(sqlite3.connect(service.folder / "data/engine.db", timeout=30)) as database, database:
        find = "SELECT workflow_uuid FROM workflow_status WHERE status = 'ENQUEUED'"
        [queued, *_] = service.until(lambda: database.execute(find).fetchall(), bool)
        taken = "UPDATE workflow_status SET status = 'PENDING', executor_id = 'embedded' WHERE workflow_uuid = ?"
        database.execute(taken, queued)
    for operation in (*running, *waiting):
        assert service.wait(operation)["status"] == "completed"


def test_what_the_engine_has_done_with_begins_anew(service: Service, domain: dict[str, Any], site: Path) -> None:
    big(site)
    started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
    kill_with(service, hold(service, "--create"))
    change(
        service, "engine.db", "UPDATE workflow_status SET status = 'ERROR' WHERE workflow_uuid = ?", started["uid"]
    )
    service.start()
    assert service.wait(started)["status"] == "completed"
    assert len(manifests(service.folder / "data/backups")) == 1


def test_a_heartbeat_that_fails_ends_its_operation(service: Service, domain: dict[str, Any], site: Path) -> None:
    big(site)
    started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
    hold(service, "--create")
    with refusing(service, "liberu.db", "BEFORE UPDATE OF beat_at ON operations WHEN OLD.status = 'running'"):
        ended = service.wait(started)
    assert (ended["status"], ended["error_code"]) == ("failed", "internal_error")
    assert "heartbeat" in (service.folder / "service.log").read_text()
    assert service.backup(domain)["status"] == "completed", "the domain is free again"


def test_a_manifest_whose_commit_was_not_recorded_is_withdrawn(service: Service, domain: dict[str, Any]) -> None:
    backups = service.folder / "data/backups"
    good = service.backup(domain)
    with refusing(service, "engine.db", "BEFORE INSERT ON operation_outputs WHEN NEW.function_name = 'commit'"):
        failed = service.backup(domain)
    assert (good["status"], failed["status"]) == ("completed", "failed"), failed
    assert [path.parent.name.partition(".")[0][-36:] for path in manifests(backups)] == [good["uid"]]
    path = f"/api/backup-destinations/{good['destination_id']}/scan"
    assert service.wait(service.call("POST", path, 202))["result"]["added"] == 0


@contextmanager
def small_data(folder: Path, megabytes: int) -> Iterator[Path]:
    data = folder / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(data)], check=True)
    try:
        yield data
    finally:
        subprocess.run(["umount", str(data)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Until nothing is left, not even what a file of four bytes needs, or only so much."""
    path = folder / "filling"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            stat = os.statvfs(folder)
            if leave and stat.f_bavail * stat.f_frsize <= leave:
                break
            file.write(b"x" * 4096)
    return path


def one_domain(service: Service, site: Path) -> dict[str, Any]:
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_full_data_folder_is_waited_for(folder: Path, site: Path) -> None:
    (site / "big.bin").write_bytes(os.urandom(4 << 20))
    with small_data(folder, 40) as data:
        service = Service(folder)
        service.start()
        try:
            domain, place = one_domain(service, site), slow(service)
            body = {"domain_id": domain["id"], "type": "files", "destination_id": place["id"]}
            started = service.call("POST", "/api/backups", 202, json=body)
            service.until(lambda: shown(service, started)["bytes_done"], bool)
            filling = fill(data)
            waits = "waits for the database"
            service.until(lambda: waits in (folder / "service.log").read_text(), bool)
            assert shown(service, started)["status"] == "running"
            assert "disk" in service.call("GET", "/health/ready")
            filling.unlink()
            ended = service.wait(started)
            assert ended["status"] == "completed", ended
            assert len(manifests(folder / "slow")) == 1
            verified = service.call("POST", f"/api/backups/{started['backup_id']}/verify", 202)
            assert service.wait(verified)["status"] == "completed"
        finally:
            service.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_backups_wait_while_the_data_folder_is_almost_full(folder: Path, site: Path) -> None:
    with small_data(folder, 60) as data:
        service = Service(folder)
        service.start()
        try:
            domain, place = one_domain(service, site), slow(service)
            older = service.backup(domain, destination_id=place["id"])
            filling = fill(data, leave=8 << 20)
            body = {"domain_id": domain["id"], "type": "files", "destination_id": place["id"]}
            started = service.call("POST", "/api/backups", 202, json=body)
            restored = service.wait(service.call("POST", f"/api/backups/{older['id']}/restore", 202, json={}))
            assert restored["status"] == "completed", "nothing else waits"
            assert shown(service, started)["status"] == "pending"
            assert "backups and imports wait" in service.call("GET", "/health/ready")["disk"]
            with service.client() as client:
                assert "liberu_data_free_bytes" in client.get("/metrics").text
            filling.unlink()
            assert service.wait(started)["status"] == "completed"
            assert "disk" not in service.call("GET", "/health/ready")
        finally:
            service.stop()
