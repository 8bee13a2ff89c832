"""S3 with versions, through the API: an attack undone, what a deletion frees, and what Object Lock keeps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.archives.layout import is_marker
from demo.ceph import S3Server
from demo.sample_files import differences, snapshot
from demo.service import ROOT, Service
from tests.service.test_cleanup import aged, clean


def make(service: Service, server: S3Server, bucket: str, **more: Any) -> dict[str, Any]:
    configuration = {**server.configuration, "bucket": bucket, **more.pop("configuration", {})}
    body = {"name": bucket, "type": "s3", "configuration": configuration, **more}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=body)
    return made


@pytest.fixture
def bucket(s3_store: S3Server) -> str:
    return s3_store.versioned()


@pytest.fixture
def remote(service: Service, s3_store: S3Server, bucket: str) -> dict[str, Any]:
    return make(service, s3_store, bucket)


def scan(service: Service, destination: dict[str, Any], at: datetime | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {} if at is None else {"json": {"at": at.isoformat()}}
    started = service.call("POST", f"/api/backup-destinations/{destination['id']}/scan", 202, **body)
    return service.wait(started)


def sweep(service: Service, destination: dict[str, Any], **body: Any) -> dict[str, Any]:
    """As when a day and more have gone by."""
    started = service.call("POST", f"/api/backup-destinations/{destination['id']}/sweep", 202, json=body)
    result: dict[str, Any] = service.wait(started)["result"]
    return result


def restore(service: Service, backup: dict[str, Any], **body: Any) -> dict[str, Any]:
    return service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))


def verify(service: Service, backup: dict[str, Any]) -> dict[str, Any]:
    return service.wait(service.call("POST", f"/api/backups/{backup['id']}/verify", 202))


def usage(service: Service, destination: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.call("GET", f"/api/backup-destinations/{destination['id']}/usage")
    return found


def wipe(site: Path) -> None:
    shutil.rmtree(site / "d01")
    (site / "large.bin").unlink()


def test_all_that_was_deleted_is_found_again_and_restored(
    service: Service, domain: dict[str, Any], site: Path, remote: dict[str, Any], s3_store: S3Server, bucket: str
) -> None:
    before = snapshot(site)
    backup = service.backup(domain, destination_id=remote["id"])
    good = datetime.now(UTC)
    later = service.backup(domain, destination_id=remote["id"])
    both = datetime.now(UTC)
    kit = service.folder / "kit.tar"
    environment = {"PATH": os.environ["PATH"], "LIBERU_DATA": str(service.folder / "data")}
    command = [sys.executable, "-m", "app.cli"]
    subprocess.run([*command, "recovery-kit", str(kit)], cwd=ROOT, check=True, capture_output=True, env=environment)

    assert s3_store.hide(bucket) == 7, "with the marker"
    wipe(site)
    assert restore(service, backup)["error_code"] == "destination_not_prepared"
    assert scan(service, remote)["error_code"] == "destination_not_prepared"
    assert verify(service, backup)["error_code"] == "destination_not_prepared"
    assert service.call("GET", f"/api/backups/{backup['id']}")["status"] == "completed", "nothing is judged there"
    ended = scan(service, remote, good)
    assert (ended["status"], ended["result"]["known"], ended["result"]["reopened"]) == ("completed", 1, 1), ended
    assert verify(service, backup)["status"] == "completed", "the marker was there then"
    ended = restore(service, backup, clear_existing=True)
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    wipe(site)

    service.call("POST", f"/api/backup-destinations/{remote['id']}/prepare", json={})
    assert scan(service, remote)["result"]["missing_count"] == 1, "the other is known to be of the past"
    assert verify(service, later)["status"] == "failed"
    assert service.call("GET", f"/api/backups/{later['id']}")["status"] == "failed", "as far as can be seen"
    found = usage(service, remote)
    assert (found["objects"], found["backups"], found["old_versions"], found["hidden_backups"]) == (0, 0, 6, 2)
    assert found["old_version_bytes"] == backup["file_size"] + later["file_size"]

    last = scan(service, remote, both)
    assert (last["status"], last["result"]["known"], last["result"]["reopened"]) == ("completed", 2, 2), last
    known = service.call("GET", f"/api/backups/{later['id']}")
    assert (known["status"], known["error_message"]) == ("completed", None)
    assert known["copies"][0]["as_of"] is not None
    assert known["components"][0]["status"] == "completed"
    assert sweep(service, remote, grace_hours=1)["hidden_count"] == 2
    ended = restore(service, backup, clear_existing=True)
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    assert verify(service, backup)["status"] == "completed"
    with service.client() as client:
        answer = client.get(f"/api/backups/{backup['id']}/components/1/download")
    assert answer.status_code == 200, answer.text

    service.stop()  # the catalogue is lost too
    for name in ("liberu.db", "engine.db"):
        for path in (service.folder / "data").glob(f"{name}*"):
            path.unlink()
    service.start()
    again = make(service, s3_store, bucket)
    assert scan(service, again)["result"]["added"] == 0
    ended = scan(service, again, datetime.now(UTC) - timedelta(days=1))
    assert ended["result"]["added"] == 0, "nothing was there yet"
    ended = scan(service, again, good)
    assert (ended["result"]["added"], ended["result"]["refused"]) == (1, 0)
    [listed] = service.call("GET", "/api/backups")["data"]
    assert (listed["uid"], listed["status"], bool(listed["copies"][0]["as_of"])) == (backup["uid"], "completed", True)
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
    new = service.call("POST", "/api/domains", 201, json=body)
    wipe(site)
    ended = restore(service, listed, target_domain_id=new["id"], clear_existing=True)
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    assert scan(service, again)["result"]["missing"] == [], "it is known to be of the past"

    configuration = s3_store.configuration
    environment |= {"AWS_ACCESS_KEY_ID": configuration["key"], "AWS_SECRET_ACCESS_KEY": configuration["secret"]}
    url = f"s3://{bucket}?endpoint={configuration['endpoint']}&use_path_style_endpoint=true"
    source = ["restore", "--from", url, "--kit", str(kit)]

    def cli(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *source, *more], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    assert "0 backups" in cli().stdout
    at = ["--at", good.isoformat()]
    listing = cli(*at).stdout
    assert backup["uid"] in listing
    assert later["uid"] not in listing
    out = service.folder / "out"
    done = cli(*at, "--backup", backup["uid"], "--to", str(out))
    assert done.returncode == 0, done.stderr
    assert differences(before, snapshot(out / "files")) == []
    assert "zone" in cli("--at", "yesterday").stderr

    assert usage(service, again)["old_versions"] == 6
    service.call("DELETE", f"/api/backups/{listed['id']}", 204)
    assert usage(service, again)["old_versions"] == 3, "what it held is free, the other one is still hidden"


def test_hidden_manifests_are_spared_until_somebody_says_so(
    service: Service, domain: dict[str, Any], site: Path, remote: dict[str, Any], s3_store: S3Server, bucket: str
) -> None:
    backup, gone = (service.backup(domain, destination_id=remote["id"]) for _ in range(2))
    good = datetime.now(UTC)
    assert s3_store.hide(bucket, "manifest.json") == 2
    assert sweep(service, remote, grace_hours=1)["removed_count"] == 0
    ended = scan(service, remote, good)
    assert (ended["result"]["known"], ended["result"]["reopened"]) == (2, 2)
    assert restore(service, backup)["status"] == "completed"
    service.call("DELETE", f"/api/backups/{gone['id']}", 204)
    assert usage(service, remote)["hidden_backups"] == 1
    assert {one["Key"].rpartition("/")[0] for one in s3_store.versions(bucket) if not is_marker(one["Key"])} == {
        backup["file_path"].rpartition("/")[0]
    }


def test_a_deletion_frees_what_it_deletes(
    service: Service, domain: dict[str, Any], remote: dict[str, Any], s3_store: S3Server, bucket: str
) -> None:
    backup = service.backup(domain, destination_id=remote["id"])
    old = aged(service, service.backup(domain, destination_id=remote["id"]), 90)
    service.backup(domain, destination_id=remote["id"])
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
    assert [one["id"] for one in clean(service, remote["id"])["result"]["removed"]] == [old]
    assert len(s3_store.versions(bucket)) == 4, "of the one that is left, and the marker"
    found = usage(service, remote)
    assert (found["objects"], found["old_versions"], found["old_version_bytes"]) == (3, 0, 0)


def test_what_is_locked_says_until_when(
    service: Service, domain: dict[str, Any], s3_store: S3Server, folder: Path
) -> None:
    bucket = s3_store.locking()
    remote = make(service, s3_store, bucket, configuration={"object_lock_days": "retention"}, retention_days=40)
    assert service.call("POST", f"/api/backup-destinations/{remote['id']}/test")["connected"]
    backup = service.backup(domain, destination_id=remote["id"])
    assert backup["status"] == "completed", backup
    with s3_store.client() as client:
        for one in s3_store.versions(bucket, prefix=backup["file_path"].rpartition("/")[0]):
            found = client.head_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
            assert (found["ObjectLockRetainUntilDate"] - datetime.now(UTC)).days == 39
    problem = service.call("DELETE", f"/api/backups/{backup['id']}", 409)
    assert problem["code"] == "object_locked"
    assert f"{datetime.now(UTC) + timedelta(days=40):%Y-%m-%d}" in problem["detail"]
    assert service.call("GET", f"/api/backups/{backup['id']}")["status"] == "completed", "nothing was changed"
    assert restore(service, backup)["status"] == "completed"
    aged(service, backup, 90)
    service.backup(domain, destination_id=remote["id"])
    ended = clean(service, remote["id"])
    assert (ended["status"], ended["result"]["removed_count"], ended["result"]["locked_count"]) == ("completed", 0, 1)
    assert ended["result"]["locked"][0]["id"] == backup["id"]
    assert service.call("GET", f"/api/backups/{backup['id']}")["status"] == "completed"
    assert ended["result"]["locks_extended"] == 0, "they hold for long enough"


def test_locks_are_extended_while_a_backup_is_kept(
    service: Service, domain: dict[str, Any], s3_store: S3Server
) -> None:
    bucket = s3_store.locking()
    remote = make(service, s3_store, bucket, configuration={"object_lock_mode": "GOVERNANCE"})
    backup = service.backup(domain, destination_id=remote["id"])
    aged(service, backup, 300)  # kept, since it is the only one
    configuration = {**remote["configuration"], "object_lock_days": 30, "object_lock_mode": "GOVERNANCE"}
    body = {"name": bucket, "type": "s3", "configuration": configuration}
    service.call("PUT", f"/api/backup-destinations/{remote['id']}", json=body)
    assert clean(service, remote["id"], dry_run=True)["result"].get("locks_extended") is None
    assert clean(service, remote["id"])["result"]["locks_extended"] == 1
    with s3_store.client() as client:
        for one in s3_store.versions(bucket, prefix=backup["file_path"].rpartition("/")[0]):
            found = client.head_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
            left = found["ObjectLockRetainUntilDate"] - datetime.now(UTC)
            assert (found["ObjectLockMode"], left.days) == ("GOVERNANCE", 19)
    assert sweep(service, remote)["locks_extended"] == 0, "they hold for long enough"
    s3_store.hide(bucket, "manifest.json")
    ended = clean(service, remote["id"])
    assert (ended["status"], ended["result"]["locks_failed"][0]["id"]) == ("partial", backup["id"])


def test_no_past_is_said(service: Service, domain: dict[str, Any], s3_store: S3Server) -> None:
    ended = scan(service, {"id": 1}, datetime.now(UTC))
    assert (ended["status"], ended["error_code"]) == ("failed", "no_past")
    ended = scan(service, make(service, s3_store, "backups"), datetime.now(UTC))
    assert (ended["status"], ended["error_code"]) == ("failed", "no_past")
    for at in ("2026-11-26T15:00:00", (datetime.now(UTC) + timedelta(hours=1)).isoformat()):
        service.call("POST", "/api/backup-destinations/1/scan", 422, json={"at": at})
