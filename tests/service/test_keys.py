"""Customer-held keys: what only they open is restored with their identity, used once and kept nowhere."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from app.security.encryption import generate_identity, recipient_of
from demo.sample_files import differences, snapshot
from demo.service import Service
from tests.service.conftest import everything


def test_a_backup_that_only_the_customers_key_opens(service: Service, domain: dict[str, Any], site: Path) -> None:
    identity, stranger = generate_identity(), generate_identity()
    destination = service.call("POST", "/api/backup-destinations", 201, json={
        "name": "theirs", "configuration": {"path": str(service.folder / "dest")}, "encrypt": True, "own_key": False,
        "recipients": [recipient_of(identity)],
    })  # fmt: skip
    before = snapshot(site)
    backup = service.backup(domain, destination_id=destination["id"])
    assert backup["status"] == "completed", backup
    (site / "large.bin").unlink()
    damaged = snapshot(site)
    path = f"/api/backups/{backup['id']}/restore"
    for body in ({}, {"identity": stranger}):
        ended = service.wait(service.call("POST", path, 202, json=body))
        assert (ended["status"], ended["error_code"]) == ("failed", "decryption_failed")
        assert differences(damaged, snapshot(site)) == []
    service.call("POST", path, 422, json={"identity": "AGE-SECRET-KEY-1NONSENSE"})
    ended = service.wait(service.call("POST", path, 202, json={"identity": identity}))
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    assert identity.encode() not in everything(service)


def test_an_identity_goes_with_an_operation_that_never_begins(folder: Path, site: Path) -> None:
    """Cancelled while it waits, or still waiting after a day: in either case the sealed key is gone."""
    service = Service(folder, LIBERU_HOUSEKEEPING__SECONDS="0.3", LIBERU_HOUSEKEEPING__SWEEP_DAYS="0")
    service.start()
    try:
        body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
        domain = service.call("POST", "/api/domains", 201, json=body)
        backup = service.backup(domain)
        (folder / "slow").mkdir()
        where = {"path": str(folder / "slow")}
        slow = {"name": "slow", "type": "local", "configuration": where, "bandwidth": 1 << 16}
        place = service.call("POST", "/api/backup-destinations", 201, json=slow)
        busy = {"domain_id": domain["id"], "type": "files", "destination_id": place["id"]}
        running = service.call("POST", "/api/backups", 202, json=busy)
        path, key = f"/api/backups/{backup['id']}/restore", {"identity": generate_identity()}
        cancelled, late = (service.call("POST", path, 202, json=key) for _ in range(2))
        assert ["identity" in _request(service, one) for one in (cancelled, late)] == [True, True]
        service.call("POST", f"/api/operations/{cancelled['id']}/cancel")
        assert "identity" not in _request(service, cancelled)
        _sql(
            service, "UPDATE operations SET created_at = datetime('now', '-25 hours') || '.000000' WHERE id = ?", late
        )
        ended = service.wait(late)
        assert (ended["status"], ended["error_code"]) == ("failed", "identity_expired")
        assert "identity" not in _request(service, late)
        service.call("POST", f"/api/operations/{running['id']}/cancel")
        service.wait(running)
    finally:
        service.stop()


def _request(service: Service, operation: dict[str, Any]) -> dict[str, Any]:
    [(text,)] = _sql(service, "SELECT request FROM operations WHERE id = ?", operation)
    found: dict[str, Any] = json.loads(text)
    return found


def _sql(service: Service, sql: str, operation: dict[str, Any]) -> list[Any]:
    with closing(sqlite3.connect(service.folder / "data/liberu.db", timeout=15)) as database, database:
        return database.execute(sql, (operation["id"],)).fetchall()
