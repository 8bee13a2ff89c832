"""One component through the API, decrypted for those permitted."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.service import Service


@pytest.fixture
def backup(service: Service, domain: dict[str, Any], site: Path) -> dict[str, Any]:
    (site / "larger.bin").write_bytes(random.Random(5).randbytes(6 << 20))  # more than one chunk
    body = {"name": "enc", "configuration": {"path": str(service.folder / "enc")}, "encrypt": True}
    destination = service.call("POST", "/api/backup-destinations", 201, json=body)
    return service.backup(domain, destination_id=destination["id"])


def test_it_is_the_archive_itself(service: Service, backup: dict[str, Any], site: Path) -> None:
    with service.client() as client:
        answer = client.get(f"/api/backups/{backup['id']}/components/1/download").raise_for_status()
    assert int(answer.headers["content-length"]) == backup["components"][0]["plain_size"] == len(answer.content)
    assert answer.headers["content-disposition"].startswith('attachment; filename="shop-example-com-')
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        inside = archive.extractfile("./large.bin")
        assert inside is not None
        assert inside.read() == (site / "large.bin").read_bytes()
    events = service.call("GET", "/api/audit-events?per_page=200")["data"]
    assert "GET /api/backups/{backup_id}/components/{number}/download" in [event["action"] for event in events]


def test_who_may_and_what_there_is(service: Service, backup: dict[str, Any]) -> None:
    path = f"/api/backups/{backup['id']}/components/1/download"
    reader = {"name": "r", "abilities": ["backups:read"], "user_id": 7}
    service.call("GET", path, 403, service.call("POST", "/api/tokens", 201, json=reader)["token"])
    stranger = {"name": "s", "abilities": ["backups:restore"], "user_id": 8}
    service.call("GET", path, 404, service.call("POST", "/api/tokens", 201, json=stranger)["token"])
    service.call("GET", path.replace("/1/", "/9/"), 404)


def test_a_damaged_archive_never_arrives_whole(service: Service, backup: dict[str, Any]) -> None:
    archive = next((service.folder / "enc").rglob("01-files*"))
    content = bytearray(archive.read_bytes())
    content[-100_000] ^= 1
    archive.write_bytes(content)
    with service.client() as client, pytest.raises(httpx.RemoteProtocolError):
        client.get(f"/api/backups/{backup['id']}/components/1/download")
    archive.unlink()
    service.call("GET", f"/api/backups/{backup['id']}/components/1/download", 404)
