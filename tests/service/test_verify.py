"""Verification reads what is stored: a whole copy is called so, a damaged one too, and the whole one is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo.service import Service


def verify(service: Service, backup: dict[str, Any]) -> dict[str, Any]:
    return service.wait(service.call("POST", f"/api/backups/{backup['id']}/verify", 202))


def second(service: Service, folder: Path) -> dict[str, Any]:
    body = {"name": "second", "type": "local", "configuration": {"path": str(folder / "second")}}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=body)
    return made


def damage(root: Path, pattern: str) -> None:
    [path] = root.rglob(pattern)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_copy_is_found_and_the_other_is_used(
    service: Service, domain: dict[str, Any], folder: Path
) -> None:
    other = second(service, folder)
    backup = service.backup(domain, copies=[{"destination_id": other["id"]}])
    ended = verify(service, backup)
    assert (ended["status"], ended["bytes_done"] > 0) == ("completed", True), ended
    assert {copy["state"] for copy in ended["result"]["copies"]} == {"whole"}
    damage(service.folder / "data/backups", "01-files*")
    ended = verify(service, backup)
    assert (ended["status"], ended["error_code"]) == ("partial", "archive_damaged")
    assert "01-files" in ended["error_message"]
    found = service.call("GET", f"/api/backups/{backup['id']}")
    assert found["status"] == "completed"
    assert [copy["state"] for copy in found["copies"]] == ["damaged", "stored"]
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", "from the whole copy"
    damage(folder / "second", "01-files*")
    assert verify(service, backup)["result"]["lost_components"] == [1]
    found = service.call("GET", f"/api/backups/{backup['id']}")
    assert (found["status"], found["components"][0]["error_code"]) == ("failed", "archive_damaged")
    service.call("POST", f"/api/backups/{backup['id']}/restore", 409, json={})
    damage(folder / "second", "01-files*")  # the same bit again: it is whole
    assert verify(service, backup)["status"] == "partial"
    found = service.call("GET", f"/api/backups/{backup['id']}")
    assert (found["status"], found["error_message"]) == ("completed", None)
    assert (found["components"][0]["status"], found["components"][0]["error_code"]) == ("completed", None)
    assert [copy["state"] for copy in found["copies"]] == ["damaged", "stored"]
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={}))
    assert ended["status"] == "completed", ended


def test_a_scan_lifts_what_is_whole_and_nothing_else(service: Service, domain: dict[str, Any]) -> None:
    first, second = service.backup(domain), service.backup(domain)
    root = service.folder / "data/backups"
    for backup in (first, second):
        damage(root / Path(backup["file_path"]).parent, "01-files*")
        assert verify(service, backup)["status"] == "failed"
    damage(root / Path(first["file_path"]).parent, "01-files*")
    ended = service.wait(service.call("POST", "/api/backup-destinations/1/scan", 202))
    assert (ended["result"]["known"], ended["result"]["whole_again"]) == (2, 1)
    assert service.call("GET", f"/api/backups/{first['id']}")["status"] == "completed"
    assert service.call("GET", f"/api/backups/{second['id']}")["status"] == "failed"


def test_a_backup_that_was_partial_stays_so(service: Service, domain: dict[str, Any], folder: Path) -> None:
    (folder / "gone").write_bytes(b"no folder")
    away = {"name": "gone", "type": "local", "configuration": {"path": str(folder / "gone")}}
    away = service.call("POST", "/api/backup-destinations", 201, json=away)
    backup = service.backup(domain, copies=[{"destination_id": away["id"]}])
    assert backup["status"] == "partial", backup
    for expected in ("failed", "partial"):
        damage(service.folder / "data/backups", "01-files*")
        verify(service, backup)
        found = service.call("GET", f"/api/backups/{backup['id']}")
        assert found["status"] == expected
        assert "There is no copy at gone" in found["error_message"]
    assert found["error_message"] == backup["error_message"]


def test_what_cannot_be_reached_is_not_called_damaged(service: Service, domain: dict[str, Any], folder: Path) -> None:
    other = second(service, folder)
    backup = service.backup(domain, destination_id=other["id"])
    (folder / "second").rename(folder / "moved")
    (folder / "second").write_bytes(b"no folder")
    ended = verify(service, backup)
    assert (ended["status"], ended["result"]["copies"][0]["state"]) == ("failed", "unknown")
    assert service.call("GET", f"/api/backups/{backup['id']}")["status"] == "completed"
    (folder / "second").unlink()
    (folder / "moved").rename(folder / "second")
    assert verify(service, backup)["status"] == "completed"
