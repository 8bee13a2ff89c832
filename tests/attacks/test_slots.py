"""What a tenant wants with a destination of their own that is very slow: every slot, for days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.service import Service
from tests.service.test_turns import backup, begun, place, site

SLOW = 1 << 17


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder, LIBERU_JOBS__CONCURRENCY="2", LIBERU_JOBS__DISPATCH_SECONDS="0.2")
    made.start()
    yield made
    made.stop()


def status(service: Service, operation: dict[str, Any]) -> str:
    return str(service.call("GET", f"/api/operations/{operation['id']}")["status"])


def test_a_tenant_wants_every_slot_for_days(service: Service) -> None:
    mine = site(service, "small.example.com")
    good = service.wait(backup(service, mine))
    slow = place(service, "slow", bandwidth=SLOW, user_id=7)["id"]
    greedy = [
        backup(service, site(service, f"greedy{number}.example.com", size=16 << 20), destination_id=slow)
        for number in range(4)
    ]
    begun(service, greedy[0])
    theirs = backup(service, site(service, "theirs.example.com", user_id=8))
    assert service.wait(theirs)["status"] == "completed", "a slot is left to others"
    restore = service.call("POST", f"/api/backups/{good['backup_id']}/restore", 202, json={"clear_existing": False})
    assert service.wait(restore)["status"] == "completed", "a restore of the same tenant finds one"
    assert [status(service, operation) for operation in greedy] == ["running", "pending", "pending", "pending"]
    begin_slower(service)
    for operation in greedy[:2]:
        ended = service.wait(operation)
        assert (ended["status"], ended["error_code"]) == ("failed", "destination_too_slow"), ended
    assert "a second" in ended["error_message"]


def begin_slower(service: Service) -> None:
    """From now on the destination is slower than any may be."""
    service.stop()
    service.env["LIBERU_STORAGE__SLOW_BYTES_PER_SECOND"] = str(1 << 20)
    service.env["LIBERU_STORAGE__SLOW_SECONDS"] = "3"
    service.start()


def test_a_tenant_cannot_ask_for_a_destination_that_slow(service: Service) -> None:
    path = service.folder / "slower"
    path.mkdir()
    body = {"name": "slower", "type": "local", "configuration": {"path": str(path)}, "bandwidth": 65536}
    refused = service.call("POST", "/api/backup-destinations", 422, json=body | {"user_id": 7})
    assert list(refused["errors"]) == ["bandwidth"]
    service.call("POST", "/api/backup-destinations", 201, json=body)
