"""What a tenant wants with uploads: that nobody has room any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.services.uploads import Uploads
from app.settings import ImportSettings
from demo.service import Service

MIB = 1 << 20
LIMIT = 4 * MIB


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(
        tmp_path_factory.mktemp("uploads"),
        LIBERU_IMPORTS__UPLOAD_BYTES=str(2 * MIB),
        LIBERU_IMPORTS__UPLOADS_BYTES_PER_USER=str(LIMIT),
        LIBERU_IMPORTS__UPLOADS_BYTES=str(6 * MIB),
        LIBERU_SERVER__USER_REQUESTS_PER_MINUTE="0",
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def tenants(service: Service) -> Iterator[list[str]]:
    body = {"name": "x", "abilities": ["backups:import", "backups:read"]}
    made = [service.call("POST", "/api/tokens", 201, json=body | {"user_id": user})["token"] for user in (7, 8)]
    yield made
    for upload in service.call("GET", "/api/backups/uploads?per_page=200")["data"]:
        service.call("DELETE", f"/api/backups/uploads/{upload['upload_id']}", 204)


def sent(service: Service, token: str, size: int, *, announced: bool = False) -> Any:
    def slowly() -> Iterator[bytes]:
        for _ in range(0, size, MIB // 8):
            yield bytes(MIB // 8)

    with service.client(token) as client:
        return client.post("/api/backups/uploads", content=bytes(size) if announced else slowly())


def stored(service: Service) -> int:
    return sum(path.stat().st_size for path in (service.folder / "data/imports/uploads").rglob("*") if path.is_file())


def test_twenty_uploads_at_once_want_the_whole_disk(service: Service, tenants: list[str]) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(sent(service, tenants[0], 2 * MIB))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status_code != 201]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(507, "uploads_full")}
    assert len(refused) >= 18
    assert stored(service) <= LIMIT, "what was refused is gone"


def test_one_tenant_wants_the_room_of_all_and_one_upload_more_than_it_may(
    service: Service, tenants: list[str]
) -> None:
    for announced in (False, True):
        large = sent(service, tenants[1], 3 * MIB, announced=announced)
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
    assert [sent(service, tenants[0], 2 * MIB).status_code for _ in range(3)] == [201, 201, 507]
    assert sent(service, tenants[1], 2 * MIB).status_code == 201, "another one's part is not touched"
    full = sent(service, tenants[1], MIB)
    assert (full.status_code, full.json()["code"]) == (507, "uploads_full"), "all of them together"


def test_uploads_are_listed_and_deleted_by_their_owner(service: Service, tenants: list[str]) -> None:
    first, second = (sent(service, token, MIB).json()["upload_id"] for token in tenants)
    mine = service.call("GET", "/api/backups/uploads", token=tenants[0])
    assert [(found["upload_id"], found["user_id"], found["size"]) for found in mine["data"]] == [(first, 7, MIB)]
    assert {found["upload_id"] for found in service.call("GET", "/api/backups/uploads")["data"]} == {first, second}
    service.call("DELETE", f"/api/backups/uploads/{second}", 404, token=tenants[0])
    service.call("DELETE", f"/api/backups/uploads/{first}", 204, token=tenants[0])
    service.call("DELETE", f"/api/backups/uploads/{second}", 204)
    assert stored(service) == 0


def test_old_uploads_expire_and_those_in_use_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    uploads = Uploads(tmp_path, ImportSettings(upload_hours=24))
    ages = {"old": 25, "new": 23, "used": 25, "dead.part": 2, "growing.part": 0.5}
    for name, hours in ages.items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (0, time.time() - hours * 3600))
    uploads.forget({"used"}, datetime.now(UTC))
    assert {path.name for path in folder.iterdir()} == {"new", "used", "growing.part"}
    uploads.forget(set(), datetime.now(UTC) + timedelta(hours=2))
    assert list(folder.iterdir()) == []
