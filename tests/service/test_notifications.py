"""Channels through the API: who may have which, what arrives, the log, replays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.notifications.webhook import signature
from demo.service import Service
from tests.service.conftest import everything
from tests.test_notifications import Receiver, receiver

__all__ = ["receiver"]  # a fixture
URL = "/api/notification-channels"


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    made = Service(
        folder,
        LIBERU_NOTIFICATIONS__ALLOW_PRIVATE="true",
        LIBERU_NOTIFICATIONS__SECONDS="0.1",
        LIBERU_NOTIFICATIONS__SPACE_LOW_BYTES=str(1 << 60),
        LIBERU_HOUSEKEEPING__SECONDS="0.5",
    )
    made.start()
    yield made
    made.stop()


def log(service: Service, channel: dict[str, Any], **filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.call("GET", f"{URL}/{channel['id']}/deliveries", params=filters)["data"]
    return found


def test_a_backup_is_told_of(service: Service, domain: dict[str, Any], receiver: Receiver) -> None:
    made = service.call("POST", URL, 201, json={"name": "panel", "url": receiver.url, "events": ["backup.*"]})
    secret = made["secret"]
    assert "secret" not in service.call("GET", f"{URL}/{made['id']}")
    assert made["shown"] == "http://127.0.0.1…"
    service.backup(domain)
    service.until(lambda: len(receiver.got), lambda count: count == 2)
    bodies = [json.loads(body) for _, body in receiver.got]
    assert {body["type"] for body in bodies} == {"backup.started", "backup.completed"}
    assert {body["data"]["domain_name"] for body in bodies} == {"shop.example.com"}
    for headers, body in receiver.got:
        expected = signature(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == expected
    [first, _] = service.until(
        lambda: log(service, made, status="delivered"), lambda found: len(found) == 2
    )  # fmt: skip
    service.call("POST", f"{URL}/{made['id']}/deliveries/{first['id']}/replay", 202)
    service.until(lambda: len(receiver.got), lambda count: count == 3)
    assert receiver.got[2][1] == next(body for headers, body in receiver.got if headers["webhook-id"] == first["uid"])
    token = receiver.url.partition("=")[2]
    for text in (secret, f"token={token}"):
        assert text.encode() not in everything(service), "secrets are sealed"


def test_a_test_and_a_new_secret(service: Service, receiver: Receiver) -> None:
    made = service.call("POST", URL, 201, json={"name": "panel", "url": receiver.url})
    renewed = service.call("POST", f"{URL}/{made['id']}/rotate-secret")
    assert renewed["secret"] != made["secret"]
    service.call("POST", f"{URL}/{made['id']}/test", 202)
    [(headers, body)] = service.until(
        lambda: [(headers, body) for headers, body in receiver.got if b'"type":"test"' in body], bool
    )
    expected = signature(renewed["secret"], headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == expected


def test_little_space_is_told_once(service: Service, receiver: Receiver) -> None:
    events = {"events": ["destination.space_low"]}
    (service.folder / "small").mkdir()
    place = {"name": "small", "type": "local", "configuration": {"path": str(service.folder / "small")}}
    made = service.call("POST", URL, 201, json={"name": "ops", "url": receiver.url} | events)
    small = service.call("POST", "/api/backup-destinations", 201, json=place)
    looks: set[str] = set()

    def looked_at_three_times() -> bool:
        found = service.call("GET", f"/api/backup-destinations/{small['id']}")
        looks.update([found["free_at"]] if found["free_bytes"] else [])
        return len(looks) == 3

    service.until(looked_at_three_times, bool)
    told = [entry for entry in log(service, made) if entry["payload"]["data"]["destination_id"] == small["id"]]
    assert [entry["title"] for entry in told] == ["Little space is left at small"]
    with service.client("none") as client:
        assert f'liberu_destination_free_bytes{{destination_id="{small["id"]}"}}' in client.get("/metrics").text


def test_who_may_have_which(service: Service, receiver: Receiver) -> None:
    def token(user: int, *abilities: str) -> str:
        wanted = {"name": "x", "abilities": list(abilities), "user_id": user}
        return str(service.call("POST", "/api/tokens", 201, json=wanted)["token"])

    owner, reader = token(7, "notifications:manage", "backups:read"), token(7, "backups:read")
    other = token(8, "notifications:manage", "backups:read")
    body = {"name": "mine", "url": receiver.url}
    service.call("POST", URL, 403, reader, json=body)
    service.call("POST", URL, 403, owner, json=body | {"user_id": 8})
    service.call("POST", URL, 403, owner, json=body | {"type": "apprise", "url": "json://127.0.0.1/"})
    made = service.call("POST", URL, 201, owner, json=body)
    assert made["user_id"] == 7
    paths = [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate-secret"),
             ("GET", "/deliveries"), ("POST", "/deliveries/1/replay")]  # fmt: skip
    for method, path in paths:
        service.call(method, f"{URL}/{made['id']}{path}", 404, other, json=body if method == "PUT" else None)
    assert service.call("GET", URL, 200, other)["total"] == 0
    service.call("POST", f"{URL}/{made['id']}/test", 202, owner)
    [refused] = service.until(lambda: log(service, made, status="failed"), lambda found: len(found) == 1)
    assert "may not be reached" in refused["log"][0]["answer"], "operators may allow it for their own only"
    assert receiver.got == []
    wrongs: list[dict[str, Any]] = [
        {"url": "ftp://x/"}, {"url": None}, {"events": ["nothing.ever"]}, {"events": []}, {"name": ""},
    ]  # fmt: skip
    for wrong in wrongs:
        service.call("POST", URL, 422, json=body | wrong)
    service.call("PUT", f"{URL}/{made['id']}", json={"name": "renamed", "user_id": 7})
    service.call("DELETE", f"{URL}/{made['id']}", 204, owner)
