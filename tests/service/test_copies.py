"""One backup at several destinations: written at once, restored from any, removed from each by its own rules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.ports import free_port
from demo.sample_files import differences, snapshot
from demo.service import Service
from demo.storage_servers import StorageServer, sftp_server
from tests.service.conftest import stored
from tests.service.test_cleanup import aged, clean


@pytest.fixture(scope="module")
def server() -> Iterator[StorageServer]:
    with sftp_server() as started:
        yield started


def make(service: Service, name: str, type: str, configuration: dict[str, Any], **body: Any) -> dict[str, Any]:
    wanted = {"name": name, "type": type, "configuration": configuration, **body}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=wanted)
    return made


@pytest.fixture
def remote(service: Service, server: StorageServer) -> dict[str, Any]:
    return make(service, "remote", server.type, server.fresh())


@pytest.fixture
def away(service: Service, server: StorageServer) -> dict[str, Any]:
    return make(service, "far away", server.type, {**server.fresh(), "port": free_port()})


def objects(root: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(root)): path.read_bytes() for path in stored(root)}
    return dict(sorted(found.items()))


def test_both_have_it_and_each_restores_alone(
    service: Service, domain: dict[str, Any], site: Path, remote: dict[str, Any]
) -> None:
    before = snapshot(site)
    backup = service.backup(domain, copies=[{"destination_id": remote["id"]}])
    assert backup["status"] == "completed", backup
    assert [(c["destination_id"], c["state"], c["verification"]) for c in backup["copies"]] == [
        (backup["destination_id"], "stored", "read_back"), (remote["id"], "stored", "sent"),
    ]  # fmt: skip
    local, far = service.folder / "data/backups", Path(remote["configuration"]["root"])
    assert objects(local) == objects(far), "the same bytes, encrypted for the one that demands it"
    assert all(name.endswith((".age", "manifest.json")) for name in objects(local))
    shutil.rmtree(local)
    local.mkdir()
    shutil.rmtree(site / "d01")
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    body = {"destination_id": backup["destination_id"], "dry_run": True}
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))
    found = (ended["status"], ended["error_code"])
    assert found == ("failed", "destination_not_prepared"), "asked for this copy alone"
    service.call("DELETE", f"/api/backup-destinations/{remote['id']}", 409)
    problem = service.call("DELETE", f"/api/backups/{backup['id']}", 409)
    assert problem["code"] == "destination_not_prepared"
    assert objects(far) == {}, "the other copy is gone all the same"
    found = service.call("GET", f"/api/backups/{backup['id']}")
    assert (found["status"], [copy["destination_id"] for copy in found["copies"]]) == ("deleting", [1])
    path = f"/api/backup-destinations/{backup['destination_id']}/prepare"
    assert service.call("POST", path, 409, json={})["code"] == "consent_required"
    service.call("POST", path, json={"accept_missing_backups": True})
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
    events = service.call("GET", "/api/audit-events?per_page=200")["data"]
    [changes] = [e["detail"]["changes"] for e in events if e["action"].startswith("DELETE") and e["outcome"] == "204"]
    assert [change["values"]["uid"] for change in changes if change["how"] == "deleted"] == [backup["uid"]]


def test_one_that_is_away_is_named(service: Service, domain: dict[str, Any], away: dict[str, Any]) -> None:
    backup = service.backup(domain, copies=[{"destination_id": away["id"], "required": False}])
    assert backup["status"] == "completed", backup
    assert "no copy at far away" in backup["error_message"]
    assert [copy["state"] for copy in backup["copies"]] == ["stored", "failed"]
    assert "cannot be reached" in backup["copies"][1]["error_message"]
    backup = service.backup(domain, copies=[{"destination_id": away["id"]}])
    assert (backup["status"], backup["operation"]["status"]) == ("partial", "partial")
    only = service.backup(domain, destination_id=away["id"], copies=[{"destination_id": 1}])
    assert (only["status"], bool(only["file_size"])) == ("partial", True), "one copy is better than none"
    ended = service.wait(service.call("POST", f"/api/backups/{only['id']}/restore", 202, json={"dry_run": True}))
    assert ended["status"] == "completed", ended


def test_retention_removes_one_copy_and_leaves_the_other(
    service: Service, domain: dict[str, Any], remote: dict[str, Any]
) -> None:
    copies = [{"destination_id": remote["id"]}]
    old = aged(service, service.backup(domain, copies=copies), 90)
    service.backup(domain, copies=copies)
    result = clean(service, remote["id"])["result"]
    assert [entry["id"] for entry in result["removed"]] == [old]
    found = service.call("GET", f"/api/backups/{old}")
    assert (found["status"], [copy["destination_id"] for copy in found["copies"]]) == ("completed", [1])
    far = Path(remote["configuration"]["root"])
    assert len(list(far.rglob("manifest.json"))) == 1
    assert (
        service.wait(service.call("POST", f"/api/backups/{old}/restore", 202, json={"clear_existing": True}))[
            "status"
        ]
        == "completed"
    )
    clean(service, 1)
    service.call("GET", f"/api/backups/{old}", 404)


def test_what_cannot_be_is_refused(
    service: Service, domain: dict[str, Any], remote: dict[str, Any], server: StorageServer
) -> None:
    other = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    theirs = make(service, "theirs", server.type, server.fresh(), recipients=[other], own_key=False)
    for copies, where in (
        ([{"destination_id": 999}], None),
        ([{"destination_id": 1}], "copies"),
        ([{"destination_id": remote["id"]}, {"destination_id": remote["id"]}], "copies"),
        ([{"destination_id": remote["id"]}, {"destination_id": theirs["id"]}], "copies"),
    ):
        body = {"domain_id": domain["id"], "type": "files", "copies": copies}
        problem = service.call("POST", "/api/backups", 422 if where else 404, json=body)
        assert list(problem.get("errors", {})) == ([where] if where else []), problem
    assert service.call("GET", "/api/backups")["total"] == 0


def flip(root: Path, what: str) -> None:
    """One byte in the middle of a component: its size and both its ends stay."""
    [path] = root.rglob(what)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def second(service: Service) -> dict[str, Any]:
    return make(service, "the second", "local", {"path": str(service.folder / "data/second")})


def restored(service: Service, backup: dict[str, Any]) -> dict[str, Any]:
    asked = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    ended: dict[str, Any] = service.wait(asked)
    return ended


@pytest.mark.parametrize("fault", ["a byte", "an object"])
def test_a_part_that_is_damaged_in_one_copy_is_restored_from_the_other(
    service: Service, domain: dict[str, Any], site: Path, second: dict[str, Any], fault: str
) -> None:
    before = snapshot(site)
    backup = service.backup(domain, copies=[{"destination_id": second["id"]}])
    first = service.folder / "data/backups"
    if fault == "a byte":
        flip(first, "01-files*")
    else:
        [path] = first.rglob("01-files*")
        path.unlink()
    shutil.rmtree(site / "d01")
    ended = restored(service, backup)
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    [part] = ended["result"]["components"]
    assert (part["destination_id"], part["destination"]) == (second["id"], "the second")
    [warning] = [warning for warning in part["warnings"] if warning["code"] == "copy_not_used"]
    named = service.call("GET", f"/api/backup-destinations/{backup['destination_id']}")["name"]
    assert warning["subject"] == named
    states = {
        copy["destination_id"]: copy["state"]
        for copy in service.call("GET", f"/api/backups/{backup['id']}")["copies"]
    }
    assert states == {backup["destination_id"]: "damaged", second["id"]: "stored"}
    [part] = restored(service, backup)["result"]["components"]
    assert (part["destination_id"], part["warnings"]) == (second["id"], []), "the damaged one is not read first again"


def test_damaged_in_every_copy_nothing_is_changed(
    service: Service, domain: dict[str, Any], site: Path, second: dict[str, Any]
) -> None:
    backup = service.backup(domain, copies=[{"destination_id": second["id"]}])
    flip(service.folder / "data/backups", "01-files*")
    flip(service.folder / "data/second", "01-files*")
    (site / "made-since.txt").write_text("stays")
    before = snapshot(site)
    ended = restored(service, backup)
    assert (ended["status"], ended["error_code"]) == ("failed", "archive_damaged"), ended
    assert "the second" in ended["error_message"]
    assert differences(before, snapshot(site)) == []
