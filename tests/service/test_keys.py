"""Customer-held keys: what only they open is restored with their identity, used once and kept nowhere."""

from __future__ import annotations

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
