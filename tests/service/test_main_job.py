"""The main job through the API: a site is backed up, damaged, restored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.deployments.base import STAGING_PREFIX
from demo.sample_files import differences, snapshot
from demo.service import ROOT, Service
from tests.service.conftest import stored


def archives(service: Service) -> list[Path]:
    return sorted(stored(service.folder / "data/backups"))


def leftovers(site: Path) -> list[Path]:
    return [p for folder in (site, site.parent) for p in folder.iterdir() if p.name.startswith(STAGING_PREFIX)]


def tidied(service: Service, site: Path) -> None:
    """The tree that was replaced goes soon after the restore has ended."""
    service.until(lambda: leftovers(site), lambda found: not found)


def test_backup_damage_restore(service: Service, domain: dict[str, Any], site: Path) -> None:
    before = snapshot(site)
    metadata = {"dns": ["A 192.0.2.1"], "cron": "0 3 * * *"}
    backup = service.backup(domain, panel_metadata=metadata)
    assert backup["status"] == "completed", backup
    assert backup["file_size"] == sum(path.stat().st_size for path in archives(service))
    assert (service.folder / "data/backups" / backup["file_path"]).is_file()
    shutil.rmtree(site / "d01")
    (site / "defaced.html").write_text("evil")
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert ended["result"]["panel_metadata"] == metadata
    assert differences(before, snapshot(site)) == []
    tidied(service, site)


def test_an_encrypted_backup_restores_and_standard_tools_read_it(
    service: Service, domain: dict[str, Any], site: Path, tmp_path: Path
) -> None:
    before = snapshot(site)
    destination = service.call(
        "POST",
        "/api/backup-destinations",
        201,
        json={"name": "enc", "configuration": {"path": str(service.folder / "enc")}, "encrypt": True},
    )
    backup = service.backup(domain, destination_id=destination["id"])
    assert backup["status"] == "completed"
    (site / "large.bin").unlink()
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    archive = next((service.folder / "enc").rglob("01-files.tar.zst.age"))
    identity = service.folder / "data/keys/age-identity.txt"
    command = 'age -d -i "$1" "$2" | zstd -d | tar -x --xattrs --acls --same-owner -C "$3"'
    target = tmp_path / "alone"
    target.mkdir()
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "x", str(identity), str(archive), str(target)], check=True
    )
    assert differences(before, snapshot(target)) == []
    names = b"".join(path.read_bytes() for path in (service.folder / "enc").rglob("manifest.json"))
    assert b"shop.example" not in names


def test_a_damaged_object_changes_nothing(service: Service, domain: dict[str, Any], site: Path) -> None:
    backup = service.backup(domain)
    before = snapshot(site)
    archive = next(path for path in archives(service) if path.name.startswith("01-files"))
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (bytes(flipped), whole[:-5], b""):
        archive.write_bytes(damaged)
        ended = service.wait(
            service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
        )
        assert ended["status"] == "failed", ended
        assert ended["error_message"]
        assert differences(before, snapshot(site)) == []
        assert leftovers(site) == []


def test_an_edited_or_moved_manifest_is_refused(service: Service, domain: dict[str, Any]) -> None:
    first, second = service.backup(domain), service.backup(domain)
    manifests = [service.folder / "data/backups" / backup["file_path"] for backup in (first, second)]
    manifests[0].write_bytes(manifests[1].read_bytes())
    ended = service.wait(
        service.call("POST", f"/api/backups/{first['id']}/restore", 202, json={"clear_existing": True})
    )
    assert (ended["status"], ended["error_code"]) == ("failed", "manifest_invalid")
    document = json.loads(manifests[1].read_bytes())
    document["manifest"]["owner"] = 8
    manifests[1].write_text(json.dumps(document))
    ended = service.wait(
        service.call("POST", f"/api/backups/{second['id']}/restore", 202, json={"clear_existing": True})
    )
    assert (ended["status"], ended["error_code"]) == ("failed", "manifest_invalid")


def test_delete_removes_every_byte_at_the_destination(service: Service, domain: dict[str, Any]) -> None:
    backup = service.backup(domain)
    assert archives(service)
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
    assert archives(service) == []
    service.call("GET", f"/api/backups/{backup['id']}", 404)


def test_a_deletion_that_fails_leaves_nothing_that_claims_to_be_restorable(
    service: Service, domain: dict[str, Any]
) -> None:
    backup = service.backup(domain)
    store, hidden = (service.folder / "data/backups" / backup["file_path"]).parents[1], service.folder / "data/hidden"
    store.rename(hidden)
    store.write_text("a file where a folder should be")
    problem = service.call("DELETE", f"/api/backups/{backup['id']}", 409)
    assert (problem["code"], "is still there" in problem["detail"]) == ("destination_invalid", True)
    found = service.call("GET", f"/api/backups/{backup['id']}")
    assert (found["status"], found["copies"][0]["state"]) == ("deleting", "deleting")
    assert "a file stands" in found["copies"][0]["error_message"]
    service.call("POST", f"/api/backups/{backup['id']}/restore", 409, json={})
    store.unlink()
    hidden.rename(store)
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
    assert archives(service) == []


def test_the_recovery_kit_opens_what_this_installation_stored(service: Service, tmp_path: Path) -> None:
    reminder = "Nobody has confirmed that a recovery kit"
    assert service.output.count(reminder) == 1
    argv = [sys.executable, "-m", "app.cli", "recovery-kit", str(tmp_path / "kit.tar")]
    env = {"PATH": os.environ["PATH"], "LIBERU_DATA": str(service.folder / "data")}
    subprocess.run(argv, env=env, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "kit.tar").stat().st_mode & 0o777 == 0o600
    subprocess.run(["tar", "-xf", str(tmp_path / "kit.tar"), "-C", str(tmp_path)], check=True)
    for name in ("master.key", "age-identity.txt", "signing.key", "installation-id"):
        assert (tmp_path / "keys" / name).read_text() == (service.folder / "data/keys" / name).read_text()
    exported = service.call("GET", "/api/audit-events", params={"action": "keys.export"})["data"]
    assert [event["actor"] for event in exported] == ["cli"]
    again = subprocess.run(argv, env=env, cwd=ROOT, check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert "choose another file" in again.stderr
    service.stop()
    service.start()
    assert service.output.count(reminder) == 2, "it may still lie on this machine alone"
    confirm = [sys.executable, "-m", "app.cli", "recovery-kit-saved"]
    subprocess.run(confirm, env=env, cwd=ROOT, check=True, capture_output=True)
    service.stop()
    service.start()
    assert service.output.count(reminder) == 2


def test_a_missing_document_root_fails_honestly(service: Service, domain: dict[str, Any], site: Path) -> None:
    site.rename(site.with_name("gone"))
    backup = service.backup(domain)
    assert backup["status"] == "failed"
    assert "public_html" in backup["error_message"]
    assert archives(service) == []
    service.call("POST", f"/api/backups/{backup['id']}/restore", 409, json={})


def test_an_unsupported_component_makes_it_partial_never_completed(service: Service, site: Path) -> None:
    domain = service.call(
        "POST",
        "/api/domains",
        201,
        json={
            "domain_name": "db.example.com",
            "document_root": str(site),
            "databases": [{"engine": "mysql", "name": "shop", "username": "shop", "password": "s3cret-canary"}],
        },
    )
    assert "s3cret-canary" not in json.dumps(domain)
    backup = service.backup(domain, "full")
    assert backup["status"] == "partial"
    assert "mysql shop" in backup["error_message"]
    assert [c["status"] for c in backup["components"]] == ["completed", "failed"]
    assert (
        service.wait(
            service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
        )["status"]
        == "completed"
    )
    everything = b"".join(p.read_bytes() for p in (service.folder / "data").rglob("*") if p.is_file())
    assert b"s3cret-canary" not in everything


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_destination_that_runs_full_fails_and_spares_older_backups(folder: Path, site: Path) -> None:
    service = Service(folder, LIBERU_JOBS__RESERVE_BYTES="0")
    service.start()
    domain = service.call(
        "POST", "/api/domains", 201, json={"domain_name": "full.example.com", "document_root": str(site)}
    )
    disk = service.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        body = {"name": "small", "configuration": {"path": str(disk)}}
        destination = service.call("POST", "/api/backup-destinations", 201, json=body)
        backup = service.backup(domain, destination_id=destination["id"])
        assert backup["status"] == "failed"
        assert "space" in backup["error_message"]
        assert stored(disk) == []
    finally:
        service.stop()
        subprocess.run(["umount", str(disk)], check=True)


def test_dry_run_reports_the_mode_and_touches_nothing(service: Service, domain: dict[str, Any], site: Path) -> None:
    backup = service.backup(domain)
    (site / "new").write_text("new")
    before = snapshot(site)
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"dry_run": True}))
    [told] = ended["result"]["components"]
    assert told.pop("facts")["live"]["stays"]["names"] == ["new"]
    assert told == {"number": 1, "kind": "files", "name": "files", "mode": "exchange"}
    assert differences(before, snapshot(site)) == []


def test_events_end_with_the_operation(service: Service, domain: dict[str, Any]) -> None:
    started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
    ticket = service.call("POST", f"/api/operations/{started['id']}/ticket", 201)["ticket"]
    with service.client("none") as client:
        path = f"/api/operations/{started['id']}/events?ticket={ticket}"
        with client.stream("GET", path, headers={"Authorization": ""}) as response:
            lines = list(response.iter_lines())
        assert client.get(path, headers={"Authorization": ""}).status_code == 401
    last = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
    assert last["status"] == "completed"
    assert last["bytes_done"] > 1 << 20
    assert "event: ended" in lines


def test_no_space_before_a_backup_starts(folder: Path, site: Path) -> None:
    service = Service(folder, LIBERU_JOBS__RESERVE_BYTES=str(1 << 60))
    service.start()
    try:
        body = {"domain_name": "full.example.com", "document_root": str(site)}
        backup = service.backup(service.call("POST", "/api/domains", 201, json=body))
        assert (backup["status"], backup["operation"]["error_code"]) == ("failed", "no_space")
        assert "1024.00 PB are needed" in backup["error_message"]
        assert archives(service) == []
    finally:
        service.stop()
