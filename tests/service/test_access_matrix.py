"""Every route for every kind of caller, as the OpenAPI document lists them: a route without a line here fails."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from demo.service import Service
from tests.service.conftest import SITE_UID

OWNER, STRANGER = 7, 8


@dataclass(frozen=True)
class Route:
    """`ability`: without it 403. `stranger`, `owner`, `admin`: what another tenant with every ability gets, the
    tenant whose it is, and an operator. A list is open to all, and holds what is theirs: `listed` is asked too."""

    ability: str
    stranger: int
    owner: int
    admin: int
    body: str | None = None
    listed: bool = False


def item(ability: str, owner: int = 200, admin: int | None = None, body: str | None = None) -> Route:
    return Route(ability, 404, owner, owner if admin is None else admin, body)


def listing(ability: str = "backups:read") -> Route:
    return Route(ability, 200, 200, 200, listed=True)


def operators(ability: str, status: int, body: str | None = None) -> Route:
    return Route(ability, 403, 403, status, body)


READ, CREATE, RESTORE, DELETE = "backups:read", "backups:create", "backups:restore", "backups:delete"
DOMAINS, PLACES, SCHEDULES = "domains:manage", "destinations:manage", "schedules:manage"
TELL = "notifications:manage"
ROUTES = {
    "POST /api/domains": Route(DOMAINS, 201, 201, 201, "new_domain"),
    "GET /api/domains": listing(),
    "GET /api/domains/{domain_id}": item(READ),
    "PUT /api/domains/{domain_id}": item(DOMAINS, body="domain"),
    "DELETE /api/domains/{domain_id}": item(DOMAINS, 204),
    "POST /api/domains/{domain_id}/detect-deployment": item(CREATE),
    "GET /api/domains/{domain_id}/remains": item(READ),
    "DELETE /api/domains/{domain_id}/remains/{remains_id}": operators(DOMAINS, 404),
    "GET /api/deployment": Route(READ, 200, 200, 200),
    "PUT /api/domains/by-name/{name}": Route(DOMAINS, 409, 200, 200, "domain"),
    "POST /api/backup-destinations": Route(PLACES, 201, 201, 201, "new_destination"),
    "GET /api/backup-destinations": listing(),
    "GET /api/backup-destinations/{destination_id}": item(READ),
    "PUT /api/backup-destinations/{destination_id}": item(PLACES, body="destination"),
    "DELETE /api/backup-destinations/{destination_id}": item(PLACES, 204),
    "POST /api/backup-destinations/{destination_id}/test": item(PLACES),
    "POST /api/backup-destinations/{destination_id}/prepare": item(PLACES, 502, body="nothing"),
    "GET /api/backup-destinations/{destination_id}/usage": item(READ, 502),
    "POST /api/backup-destinations/{destination_id}/cleanup": item(DELETE, 202, body="nothing"),
    "POST /api/backup-destinations/{destination_id}/sweep": operators(DELETE, 202, "nothing"),
    "POST /api/backup-destinations/{destination_id}/scan": operators(PLACES, 202),
    "POST /api/tokens": operators("*", 201, "token"),
    "GET /api/tokens": operators("*", 200),
    "DELETE /api/tokens/{token_id}": operators("*", 204),
    "POST /api/backups/import-external": Route("backups:import", 404, 404, 404, "import"),
    "POST /api/backups/uploads": Route("backups:import", 201, 201, 201, "bytes"),
    "GET /api/backups/uploads": Route("backups:import", 200, 200, 200),
    "DELETE /api/backups/uploads/{upload_id}": item("backups:import", 204),
    "POST /api/backups": item(CREATE, 202, body="backup"),
    "GET /api/backups": listing(),
    "GET /api/backups/stats": Route(READ, 200, 200, 200),
    "GET /api/backups/{backup_id}": item(READ),
    "PUT /api/backups/{backup_id}": item(CREATE, body="renamed"),
    "DELETE /api/backups/{backup_id}": item(DELETE, 204),
    "GET /api/backups/{backup_id}/components/{number}/download": item(RESTORE),
    "POST /api/backups/{backup_id}/restore": item(RESTORE, 202, body="nothing"),
    "POST /api/backups/bulk-restore": Route(RESTORE, 422, 202, 202, "bulk"),
    "POST /api/backups/{backup_id}/verify": item(CREATE, 202),
    "GET /api/operations": listing(),
    "GET /api/operations/{operation_id}": item(READ),
    "POST /api/operations/{operation_id}/cancel": item(CREATE, 409),
    "POST /api/operations/{operation_id}/ticket": item(READ, 201),
    "POST /api/operations/{operation_id}/accounts": operators(RESTORE, 404),
    "GET /api/operations/{operation_id}/events": item(READ),
    "POST /api/backup-schedules": item(SCHEDULES, 201, body="schedule"),
    "GET /api/backup-schedules": listing(),
    "GET /api/backup-schedules/{schedule_id}": item(READ),
    "PUT /api/backup-schedules/{schedule_id}": item(SCHEDULES, body="schedule"),
    "DELETE /api/backup-schedules/{schedule_id}": item(SCHEDULES, 204),
    "POST /api/backup-schedules/{schedule_id}/run": item(SCHEDULES, 202),
    "GET /api/backup-schedules/{schedule_id}/runs": item(READ),
    "GET /api/quotas": operators(READ, 200),
    "GET /api/quotas/{user_id}": item(READ),
    "PUT /api/quotas/{user_id}": operators("*", 200, "nothing"),
    "DELETE /api/quotas/{user_id}": operators("*", 204),
    "POST /api/notification-channels": Route(TELL, 201, 201, 201, "channel"),
    "GET /api/notification-channels": listing(),
    "GET /api/notification-channels/{channel_id}": item(READ),
    "PUT /api/notification-channels/{channel_id}": item(TELL, body="channel"),
    "DELETE /api/notification-channels/{channel_id}": item(TELL, 204),
    "POST /api/notification-channels/{channel_id}/rotate-secret": item(TELL),
    "POST /api/notification-channels/{channel_id}/test": item(TELL, 202),
    "GET /api/notification-channels/{channel_id}/deliveries": item(READ),
    "POST /api/notification-channels/{channel_id}/deliveries/{delivery_id}/replay": item(TELL, 409),
    "GET /api/audit-events": operators("audit:read", 200),
    "GET /api/audit-events/export": operators("audit:read", 200),
}
OPEN = {"GET /health/live", "GET /health/ready", "GET /metrics"}


def documented() -> set[str]:
    paths = create_app().openapi()["paths"]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}


def test_every_route_has_a_line() -> None:
    assert documented() == ROUTES.keys() | OPEN


class Place:
    """One service; `things` makes one of each kind, which belong to the owner."""

    def __init__(self, folder: Path) -> None:
        self.service = Service(
            folder,
            LIBERU_SERVER__USER_REQUESTS_PER_MINUTE="0",
            LIBERU_SERVER__FAILURES_PER_MINUTE="0",
            LIBERU_IMPORTS__FOLDER=str(folder),
            LIBERU_STORAGE__RESUME_SECONDS="0",
            LIBERU_STORAGE__ALLOW_PRIVATE="true",
            LIBERU_NOTIFICATIONS__SECONDS="3600",
        )
        self.folder = folder
        self.count = 0

    def token(self, user_id: int | None, *abilities: str, **more: Any) -> str:
        body = {"name": "x", "abilities": list(abilities), "user_id": user_id, **more}
        return str(self.service.call("POST", "/api/tokens", 201, json=body)["token"])

    def things(self, route: str) -> dict[str, Any]:
        """Path parameters; what is not in the path is made only when a body needs it."""
        self.count += 1
        name = f"site{self.count}.example.com"
        root = self.folder / "sites" / name
        root.mkdir(parents=True)
        (root / "index.html").write_text(name)
        if os.geteuid() == 0:
            os.chown(root, SITE_UID, SITE_UID)
        body = {"domain_name": name, "user_id": OWNER, "document_root": str(root)}
        domain = self.service.call("POST", "/api/domains", 201, json=body)
        found: dict[str, Any] = {
            "domain_id": domain["id"],
            "name": name,
            "number": 1,
            "remains_id": 1,
            "user_id": OWNER,
            "_root": root,
        }
        if any(word in route for word in ("backup_id", "operation_id", "bulk-restore")):
            backup = self.service.backup(domain)
            found |= {"backup_id": backup["id"], "operation_id": backup["operation"]["id"]}
        if "upload_id" in route:
            with self.service.client(self.token(OWNER, "*")) as client:
                found["upload_id"] = client.post("/api/backups/uploads", content=b"x").json()["upload_id"]
        if "destination_id" in route:
            body = self.destination() | {"user_id": OWNER}
            found["destination_id"] = self.service.call("POST", "/api/backup-destinations", 201, json=body)["id"]
        if "schedule_id" in route:
            body = {"name": "x", "domain_id": domain["id"], "frequency": "monthly"}
            found["schedule_id"] = self.service.call("POST", "/api/backup-schedules", 201, json=body)["id"]
        if "channel_id" in route:
            body = {"name": "x", "url": "https://example.com/", "user_id": OWNER}
            made = self.service.call("POST", "/api/notification-channels", 201, json=body)
            path = f"/api/notification-channels/{made['id']}/test"
            found |= {"channel_id": made["id"], "delivery_id": self.service.call("POST", path, 202)["id"]}
        if "token_id" in route:
            body = {"name": "x", "abilities": ["*"], "user_id": OWNER}
            found["token_id"] = self.service.call("POST", "/api/tokens", 201, json=body)["id"]
        if route == "DELETE /api/quotas/{user_id}":
            self.service.call("PUT", f"/api/quotas/{OWNER}", json={})
        return found

    def destination(self) -> dict[str, Any]:
        self.count += 1
        where = {"host": "127.0.0.1", "port": 9, "username": "x", "password": "x"}
        return {"name": f"place {self.count}", "type": "sftp", "configuration": where}

    def body(self, kind: str | None, things: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        bodies: dict[str, Any] = {
            "nothing": {},
            "new_domain": {"domain_name": f"new{self.count}.example.com"},
            "domain": {"domain_name": things["name"], "document_root": str(things["_root"]), "user_id": OWNER},
            "new_destination": self.destination(),
            "destination": self.destination(),
            "token": {"name": "x", "abilities": ["backups:read"]},
            "import": {"source": {"type": "file", "path": "none.tar"}},
            "backup": {"domain_id": things["domain_id"], "type": "files"},
            "renamed": {"name": "renamed", "locked": False},
            "bulk": {"backup_ids": [things.get("backup_id")]},
            "schedule": {"name": "x", "domain_id": things["domain_id"], "frequency": "weekly"},
            "channel": {"name": "x", "url": "https://example.com/"},
        }
        if kind == "bytes":
            return {"content": b"x" * 10}
        return {"json": bodies[kind]} if kind is not None else {}

    def ask(self, route: str, things: dict[str, Any], token: str | None, kind: str | None) -> int:
        method, path = route.split()
        with self.service.client() as client:
            if token is None:
                client.headers.pop("Authorization")
            else:
                client.headers["Authorization"] = f"Bearer {token}"
            return client.request(method, path.format(**things), **self.body(kind, things)).status_code


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-matrix-"))
    folder.chmod(0o755)
    made = Place(folder)
    made.service.start()
    yield made
    made.service.stop()
    with suppress(OSError):
        shutil.rmtree(folder)


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_who_gets_what(place: Place, route: str) -> None:
    wanted = ROUTES[route]
    things = place.things(route)
    lacking = place.token(OWNER, "backups:read" if wanted.ability != "backups:read" else "audit:read")
    expired = place.token(OWNER, "*", expires_at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    found = {
        "anonymous": place.ask(route, things, None, wanted.body),
        "wrong": place.ask(route, things, "lbk_wrong", wanted.body),
        "a JWT from nobody": place.ask(route, things, "e30.e30.e30", wanted.body),
        "expired": place.ask(route, things, expired, wanted.body),
        "lacking": place.ask(route, things, lacking, wanted.body),
        "stranger": place.ask(route, things, place.token(STRANGER, "*"), wanted.body),
    }
    assert found == {
        "anonymous": 401, "wrong": 401, "a JWT from nobody": 401, "expired": 401, "lacking": 403,
        "stranger": wanted.stranger,
    }  # fmt: skip
    assert place.ask(route, things, place.token(OWNER, "*"), wanted.body) == wanted.owner
    assert place.ask(route, place.things(route), place.service.token, wanted.body) == wanted.admin


@pytest.mark.parametrize("route", sorted(route for route in ROUTES if ROUTES[route].listed))
def test_a_list_holds_what_is_the_callers(place: Place, route: str) -> None:
    place.things("backup_id destination_id schedule_id channel_id")
    path = route.split()[1]
    stranger, owner = place.token(1000, "*"), place.token(OWNER, "*")
    seen = place.service.call("GET", path, token=stranger, params={"per_page": 200})["data"]
    assert [row for row in seen if row["user_id"] is not None] == [], "shared ones at most"
    mine = place.service.call("GET", path, token=owner, params={"per_page": 200})["data"]
    assert {row["user_id"] for row in mine} <= {OWNER, None}
    assert OWNER in {row["user_id"] for row in mine}
