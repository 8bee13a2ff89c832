"""Retention through the API: a dry run, deletion at the destination first, locks, and what may never go."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.service import Service
from demo.storage_servers import StorageServer, sftp_server
from tests.service.conftest import stored


def aged(service: Service, backup: dict[str, Any], days: int) -> int:
    """Let a backup be older than it is."""
    at = datetime.now(UTC) - timedelta(days=days)
    with closing(sqlite3.connect(service.folder / "data/liberu.db", timeout=15)) as database, database:
        database.execute("UPDATE backups SET created_at = ? WHERE id = ?", (str(at)[:26], backup["id"]))
    return int(backup["id"])


def clean(service: Service, destination_id: int, **body: Any) -> dict[str, Any]:
    started = service.call("POST", f"/api/backup-destinations/{destination_id}/cleanup", 202, json=body)
    return service.wait(started)


def ids(service: Service) -> set[int]:
    return {backup["id"] for backup in service.call("GET", "/api/backups?per_page=200")["data"]}


def test_what_no_rule_keeps_goes_at_the_destination_too(service: Service, domain: dict[str, Any]) -> None:
    [destination] = service.call("GET", "/api/backup-destinations")["data"]
    backups = [service.backup(domain) for _ in range(4)]
    old, locked, newest = (aged(service, backup, days) for backup, days in zip(backups, (90, 80, 70), strict=False))
    young = backups[3]["id"]
    body = {"name": "keep me", "locked": True}
    assert service.call("PUT", f"/api/backups/{locked}", json=body)["locked"]
    service.call("DELETE", f"/api/backups/{locked}", 409)
    planned = clean(service, destination["id"], dry_run=True)["result"]
    assert [entry["id"] for entry in planned["removed"]] == [newest, old]
    assert {entry["id"]: entry["reasons"] for entry in planned["kept"]}[locked] == ["locked"]
    assert ids(service) == {old, locked, newest, young}
    ended = clean(service, destination["id"])
    assert (ended["status"], ended["result"]["removed_count"]) == ("completed", 2)
    assert ids(service) == {locked, young}
    left = {path.parent.name for path in stored(service.folder / "data/backups")}
    assert len(left) == 2


def test_the_last_good_copy_stays_however_old(service: Service, domain: dict[str, Any]) -> None:
    [destination] = service.call("GET", "/api/backup-destinations")["data"]
    only = aged(service, service.backup(domain), 300)
    result = clean(service, destination["id"])["result"]
    assert (result["kept_count"], result["removed_count"]) == (1, 0)
    assert result["kept"] == [
        {"id": only, "domain_name": "shop.example.com", "reasons": ["the newest copy of files"]}
    ]


@pytest.fixture
def mortal() -> Any:
    with sftp_server() as server:
        yield server


def test_nothing_is_begun_where_the_destination_is_away(
    service: Service, domain: dict[str, Any], mortal: StorageServer
) -> None:
    body = {"name": "remote", "type": mortal.type, "configuration": mortal.fresh()}
    destination = service.call("POST", "/api/backup-destinations", 201, json=body)
    old = aged(service, service.backup(domain, destination_id=destination["id"]), 90)
    service.backup(domain, destination_id=destination["id"])
    mortal.stop()
    ended = clean(service, destination["id"])
    assert (ended["status"], ended["error_code"]) == ("failed", "destination_unreachable")
    assert [entry["id"] for entry in ended["result"]["failed"]] == [old]
    found = service.call("GET", f"/api/backups/{old}")
    assert (found["status"], [copy["state"] for copy in found["copies"]]) == ("completed", ["stored"])
    assert len(list(Path(destination["configuration"]["root"]).rglob("manifest.json"))) == 2
