"""Many backups in one operation: parallel across domains, in order within one, honest about each."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.service import Service
from tests.service.conftest import SITE_UID

DOMAINS, ROUNDS = 20, 3


@pytest.fixture
def busy(folder: Path) -> Iterator[Service]:
    made = Service(folder, LIBERU_JOBS__CONCURRENCY="6", LIBERU_JOBS__POLLING_SECONDS="0.1")
    made.start()
    yield made
    made.stop()


class Sites:
    """Small sites, each backed up in several rounds; large enough that no archive is read by the checks."""

    def __init__(self, service: Service, domains: int, rounds: int) -> None:
        self.service = service
        self.backups: list[dict[str, Any]] = []
        self.roots = [service.folder / "site" / f"s{number}" for number in range(domains)]
        made = []
        for number, root in enumerate(self.roots):
            root.mkdir(parents=True)
            body = {"domain_name": f"s{number}.example.com", "user_id": 7, "document_root": str(root)}
            made.append(service.call("POST", "/api/domains", 201, json=body))
        for round in range(rounds):
            self.write(f"round {round}")
            started = [
                service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
                for domain in made
            ]
            for operation in started:
                assert service.wait(operation)["status"] == "completed"
                self.backups.append(service.call("GET", f"/api/backups/{operation['backup_id']}"))
        self.write("damaged")

    def write(self, text: str) -> None:
        for root in self.roots:
            (root / "index.html").write_text(text)
            (root / "picture.jpg").write_bytes(random.Random(text).randbytes(100_000))
            for path in (root, *root.iterdir()):
                if os.geteuid() == 0:
                    shutil.chown(path, SITE_UID, SITE_UID)

    def archive(self, backup: dict[str, Any]) -> Path:
        (found,) = (self.service.folder / "data" / "backups" / backup["file_path"]).parent.glob("01-*")
        return Path(found)

    def spoil(self, backup: dict[str, Any]) -> None:
        """One byte: its size and its place stay."""
        path = self.archive(backup)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def texts(self) -> list[str]:
        return [(root / "index.html").read_text() for root in self.roots]

    def restore(self, expect: int = 202, **body: Any) -> dict[str, Any]:
        ids = [backup["id"] for backup in self.backups]
        answer = self.service.call("POST", "/api/backups/bulk-restore", expect, json={"backup_ids": ids, **body})
        return dict(answer)


@pytest.mark.timeout(240)
def test_sixty_backups_five_of_them_damaged(busy: Service) -> None:
    sites = Sites(busy, DOMAINS, ROUNDS)
    # Of the last round three, of the first two; one of them has lost its archive altogether.
    damaged = [*sites.backups[-3:], *sites.backups[:2]]
    for backup in damaged[:4]:
        sites.spoil(backup)
    sites.archive(damaged[4]).unlink()

    tried = busy.wait(sites.restore(dry_run=True))
    assert (tried["status"], tried["result"]["successful"]) == ("partial", 59), "what a look can find out"
    assert sites.texts() == ["damaged"] * DOMAINS

    refused = busy.wait(sites.restore(continue_on_error=False))
    assert (refused["status"], refused["result"]["failed"], len(refused["result"]["not_started"])) == (
        "failed",
        1,
        59,
    )
    assert sites.texts() == ["damaged"] * DOMAINS, "the checks of all come before the first"

    ended = busy.wait(sites.restore(), 120)
    result = ended["result"]
    assert (ended["status"], result["total"], result["successful"], result["failed"]) == ("partial", 60, 55, 5)
    failed = {item["backup_id"]: item for item in result["details"] if item["status"] != "completed"}
    assert set(failed) == {backup["id"] for backup in damaged}
    assert {item["error_code"] for item in failed.values()} == {"archive_damaged", "manifest_invalid"}
    assert "is missing or has another size" in failed[damaged[4]["id"]]["error_message"]
    assert sites.texts() == ["round 2"] * 17 + ["round 1"] * 3, "in order: the newest that is whole came last"
    shown = ended["progress"]["1"]
    assert (shown["name"], shown["backup_id"], shown["state"]) == ("s0.example.com", sites.backups[0]["id"], "failed")


@pytest.mark.timeout(240)
def test_the_first_failure_stops_it_when_asked_to(busy: Service) -> None:
    sites = Sites(busy, 8, 3)
    sites.spoil(sites.backups[10])
    ended = busy.wait(sites.restore(continue_on_error=False), 120)
    result = ended["result"]
    assert ended["status"] == "partial"
    assert result["failed"] == 1
    assert len(result["not_started"]) >= 4
    assert result["successful"] + result["failed"] + len(result["not_started"]) == 24
    started = {op["backup_id"] for op in busy.call("GET", "/api/operations?type=restore&per_page=100")["data"]}
    assert started.isdisjoint(result["not_started"])
    assert ended["error_code"] == "archive_damaged"


@pytest.mark.timeout(240)
def test_a_kill_in_the_middle_is_gone_on_from(busy: Service) -> None:
    sites = Sites(busy, 12, 3)
    parent = sites.restore()

    def children() -> list[dict[str, Any]]:
        return list(busy.call("GET", "/api/operations?type=restore&per_page=100")["data"])

    busy.until(children, lambda found: sum(child["status"] == "completed" for child in found) >= 8)
    before = {child["id"]: child for child in children() if child["status"] == "completed"}
    busy.kill()
    busy.start()
    ended = busy.wait(parent, 120)
    assert (ended["status"], ended["result"]["successful"]) == ("completed", 36)
    after = {child["id"]: child for child in children()}
    assert len(after) == 36, "none was started twice"
    assert {child["parent_id"] for child in after.values()} == {parent["id"]}
    assert all(after[number] == child for number, child in before.items()), "nothing that was done is done again"
    assert sites.texts() == ["round 2"] * 12


def test_cancelling_stops_what_runs_and_names_the_rest(busy: Service) -> None:
    sites = Sites(busy, 6, 3)
    parent = sites.restore()
    busy.until(
        lambda: busy.call("GET", "/api/operations?type=restore")["data"],
        lambda found: any(child["status"] == "completed" for child in found),
    )
    busy.call("POST", f"/api/operations/{parent['id']}/cancel")
    ended = busy.wait(parent)
    assert ended["status"] == "cancelled"
    assert ended["result"]["successful"] >= 1
    assert ended["result"]["total"] == 18
    active = [op for op in busy.call("GET", "/api/operations?per_page=100")["data"] if op["status"] == "running"]
    assert active == []


def test_what_cannot_be_restored_is_named_at_once(busy: Service) -> None:
    sites = Sites(busy, 1, 2)
    first, second = (backup["id"] for backup in sites.backups)
    shutil.rmtree(sites.roots[0])
    failed = busy.call(
        "POST", "/api/backups", 202, json={"domain_id": sites.backups[0]["domain_id"], "type": "files"}
    )
    assert busy.wait(failed)["status"] == "failed"

    def refused(*ids: int, token: str | None = None) -> str:
        body = {"backup_ids": list(ids)}
        answer = busy.call("POST", "/api/backups/bulk-restore", 422, token, json=body)
        return str(answer["errors"]["backup_ids"])

    assert "is named twice" in refused(first, second, first)
    assert "there is no backup 999" in refused(first, 999)
    assert f"Backup {failed['backup_id']} is failed" in refused(first, failed["backup_id"])
    refused()
    body = {"name": "stranger", "abilities": ["backups:restore"], "user_id": 8}
    stranger = busy.call("POST", "/api/tokens", 201, json=body)["token"]
    assert f"there is no backup {first}" in refused(first, token=stranger)
    body = {"name": "reader", "abilities": ["backups:read"]}
    reader = busy.call("POST", "/api/tokens", 201, json=body)["token"]
    busy.call("POST", "/api/backups/bulk-restore", 403, reader, json={"backup_ids": [first]})
