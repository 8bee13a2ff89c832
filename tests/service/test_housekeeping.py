"""What is removed by itself: old operations with the engine's rows, staging, leftovers at destinations."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.service import Service


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder, LIBERU_HOUSEKEEPING__SECONDS="0.3", LIBERU_HOUSEKEEPING__SWEEP_DAYS="1")
    made.start()
    yield made
    made.stop()


def query(service: Service, file: str, sql: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(service.folder / "data" / file, timeout=15)) as database, database:
        return database.execute(sql, values).fetchall()


def test_old_operations_go_and_young_ones_stay(service: Service, domain: dict[str, Any]) -> None:
    old, young = service.backup(domain), service.backup(domain)
    uid = old["operation"]["uid"]
    when = (datetime.now(UTC) - timedelta(days=91)).strftime("%Y-%m-%d %H:%M:%S.%f")
    query(service, "liberu.db", "UPDATE operations SET finished_at = ? WHERE uid = ?", when, uid)
    long_ago = int((time.time() - 8 * 86_400) * 1000)
    columns = "created_at = ?, updated_at = ?, completed_at = ?"
    query(service, "engine.db", f"UPDATE workflow_status SET {columns} WHERE workflow_uuid = ?",
          long_ago, long_ago, long_ago, uid)  # fmt: skip
    known = "SELECT count(*) FROM workflow_status WHERE workflow_uuid = ?"
    service.until(lambda: query(service, "engine.db", known, uid), lambda rows: rows == [(0,)])
    path = f"/api/operations/{old['operation']['id']}"
    with service.client() as client:
        service.until(lambda: client.get(path).status_code, lambda status: status == 404)
    assert query(service, "engine.db", known, young["operation"]["uid"]) == [(1,)]
    service.call("GET", f"/api/operations/{young['operation']['id']}")
    restored = service.call("POST", f"/api/backups/{old['id']}/restore", 202, json={"clear_existing": True})
    assert service.wait(restored)["status"] == "completed", "a backup outlives the record of its making"


def leftovers(service: Service, backup: dict[str, Any]) -> list[Path]:
    """What an attempt that was killed could have left: beside a good backup, and in a folder of its own."""
    good = service.folder / "data/backups" / Path(backup["file_path"]).parent
    dead = good.with_name(good.name.replace(backup["uid"], "0" * 36))
    dead.mkdir()
    made = [dead / "01-files.tar.zst", good.parent / ".put-0123456789abcdef"]
    for path in made:
        path.write_bytes(b"x" * 1000)
        os.utime(path, (time.time() - 90_000,) * 2)
    return made


def test_leftovers_are_found_by_themselves(service: Service, domain: dict[str, Any]) -> None:
    backup = service.backup(domain)
    made = leftovers(service, backup)
    query(service, "liberu.db", "DELETE FROM operations WHERE type = 'sweep'")
    service.until(lambda: any(path.exists() for path in made), lambda there: not there)
    sweeps = service.call("GET", "/api/operations", params={"type": "sweep"})
    assert sweeps["total"] == 1, "once in so many days"
    assert service.call("GET", f"/api/backups/{backup['id']}")["status"] == "completed"
    verified = service.wait(service.call("POST", f"/api/backups/{backup['id']}/verify", 202))
    assert verified["status"] == "completed"


def test_a_sweep_can_only_say_what_it_would_do(service: Service, domain: dict[str, Any]) -> None:
    service.until(lambda: service.call("GET", "/api/operations", params={"type": "sweep"})["total"], bool)
    backup = service.backup(domain)
    made = leftovers(service, backup)
    path = f"/api/backup-destinations/{backup['destination_id']}/sweep"
    said = service.wait(service.call("POST", path, 202, json={"dry_run": True}))["result"]
    assert (said["removed_count"], said["removed_bytes"]) == (1, 1000)
    assert said["removed"][0].endswith("/01-files.tar.zst")
    assert all(path.exists() for path in made)
    young = service.wait(service.call("POST", path, 202, json={"grace_hours": 48}))["result"]
    assert young["removed_count"] == 0
    assert all(path.exists() for path in made)
    done = service.wait(service.call("POST", path, 202, json={}))["result"]
    assert done["removed_count"] == 1
    assert not any(path.exists() for path in made)
    tenant = {"name": "tenant", "abilities": ["*"], "user_id": 7}
    service.call("POST", path, 403, service.call("POST", "/api/tokens", 201, json=tenant)["token"], json={})


def test_staging_of_what_has_ended_goes(service: Service) -> None:
    staging = service.folder / "data/imports"
    dead, upload = staging / "0190-dead", staging / "uploads/operator/old"
    for path in (dead, upload.parent):
        path.mkdir(parents=True, exist_ok=True)
    (dead / "part").write_bytes(b"x")
    upload.write_bytes(b"x")
    os.utime(upload, (time.time() - 90_000,) * 2)
    (upload.parent / "new").write_bytes(b"x")
    service.until(lambda: dead.exists() or upload.exists(), lambda there: not there)
    assert (upload.parent / "new").exists()


def test_a_backup_whose_operation_never_began_ends(service: Service, domain: dict[str, Any]) -> None:
    """As those that were cancelled before a cancellation ended them too."""
    backup, other = service.backup(domain), service.backup(domain)
    query(service, "liberu.db", "UPDATE backups SET status = 'pending' WHERE id = ?", backup["id"])
    where = f"/api/backups/{backup['id']}"
    service.until(lambda: service.call("GET", where)["status"], lambda status: status == "cancelled")
    assert service.call("GET", f"/api/backups/{other['id']}")["status"] == "completed"


def test_a_sweep_removes_what_a_backup_that_was_cancelled_had_published(
    service: Service, domain: dict[str, Any]
) -> None:
    """As when its destination could not be reached then; a backup that was found damaged later stays."""
    service.until(lambda: service.call("GET", "/api/operations", params={"type": "sweep"})["total"], bool)
    cancelled, damaged = service.backup(domain), service.backup(domain)
    query(service, "liberu.db", "UPDATE backups SET status = 'cancelled', file_path = NULL WHERE id = ?",
          cancelled["id"])  # fmt: skip
    query(service, "liberu.db", "DELETE FROM backup_copies WHERE backup_id = ?", cancelled["id"])
    query(service, "liberu.db", "UPDATE backups SET status = 'failed' WHERE id = ?", damaged["id"])
    folders = [(service.folder / "data/backups" / found["file_path"]).parent for found in (cancelled, damaged)]
    for path in (path for folder in folders for path in folder.iterdir()):
        os.utime(path, (time.time() - 90_000,) * 2)
    kept = sorted(folders[1].iterdir())
    path = f"/api/backup-destinations/{cancelled['destination_id']}/sweep"
    assert service.wait(service.call("POST", path, 202, json={}))["result"]["removed_count"] == 3
    assert not folders[0].exists() or list(folders[0].iterdir()) == []
    assert sorted(folders[1].iterdir()) == kept
