"""Planted secrets are found nowhere: answers, logs, errors, command lines, audit trail, manifests, database,
deliveries."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from demo.service import Service
from tests.service.conftest import SITE_UID, everything

CANARIES = {
    "destination": "canary-destination-5f1c", "database": "canary-database-5f1c", "admin": "canary-admin-5f1c",
    "ssh": "canary-ssh-5f1c", "hook": "canary-hook-5f1c", "chat": "canary-chat-5f1c",
}  # fmt: skip


class Watch(threading.Thread):
    """Looks at the command line and the environment that every process shows, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self.over.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    text = path.read_bytes()
                except OSError:
                    continue
                self.seen.update(name for name, secret in CANARIES.items() if secret.encode() in text)


def planted(service: Service, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """A domain whose databases and destinations do not answer, and the secrets that only the answers hold."""
    root = folder / "site"
    root.mkdir()
    (root / "index.html").write_text("x")
    if os.geteuid() == 0:
        os.chown(root, SITE_UID, SITE_UID)
    away = {"host": "127.0.0.1", "port": 9, "username": "x", "password": CANARIES["destination"]}
    places = {
        "sftp": away, "ftp": away | {"ssl": "none", "allow_plaintext": True},
        "s3": {"key": "x", "secret": CANARIES["destination"], "region": "x", "bucket": "bucket",
               "endpoint": "http://127.0.0.1:9"},
    }  # fmt: skip
    made = [
        service.call(
            "POST", "/api/backup-destinations", 201, json={"name": kind, "type": kind, "configuration": where}
        )
        for kind, where in places.items()
    ]
    database = {
        "host": "127.0.0.1", "port": 9, "name": "shop", "username": "shop", "password": CANARIES["database"],
        "admin_username": "admin", "admin_password": CANARIES["admin"],
    }  # fmt: skip
    databases = [database | {"engine": engine} for engine in ("mariadb", "postgresql")]
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(root), "databases": databases}
    domain = service.call("POST", "/api/domains", 201, json=body)
    ssh = {"type": "ssh", "host": "127.0.0.1", "port": 9, "username": "x", "password": CANARIES["ssh"]}
    body = {"domain_name": "ssh.example.com", "document_root": "/srv/x", "deployment": ssh}
    far = service.call("POST", "/api/domains", 201, json=body)
    hook = {"name": "hook", "url": f"http://127.0.0.1:9/{CANARIES['hook']}", "events": ["*"]}
    channel = service.call("POST", "/api/notification-channels", 201, json=hook)
    chat = {"name": "chat", "type": "apprise", "url": f"json://user:{CANARIES['chat']}@127.0.0.1:9/", "events": ["*"]}
    service.call("POST", "/api/notification-channels", 201, json=chat)
    token = service.call("POST", "/api/tokens", 201, json={"name": "x", "abilities": ["*"], "user_id": 7})["token"]
    for place in made:
        service.call("POST", f"/api/backup-destinations/{place['id']}/test")
        service.wait(service.call("POST", "/api/backups", 202,
                                  json={"domain_id": domain["id"], "destination_id": place["id"]}))  # fmt: skip
    service.wait(service.call("POST", "/api/backups", 202, json={"domain_id": far["id"], "type": "files"}))
    service.wait(service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"]}))
    service.call("GET", "/api/domains", 401, token=token + "x")
    return domain, [channel["secret"], token]


def test_planted_secrets_are_found_nowhere(folder: Path) -> None:
    service = Service(
        folder, LIBERU_STORAGE__RESUME_SECONDS="0", LIBERU_NOTIFICATIONS__ALLOW_PRIVATE="true",
        LIBERU_NOTIFICATIONS__SECONDS="0.2",
    )  # fmt: skip
    service.start()
    watch = Watch()
    watch.start()
    try:
        _, shown_once = planted(service, folder)
        for number in (1, 2):
            tried(service, number)
        answers = json.dumps([service.call("GET", path) for path in every_list(service)])
        with service.client() as client:
            answers += client.get("/metrics").text + client.get("/api/audit-events/export").text
        limits = Path(f"/proc/{service.pid}/limits").read_text()
    finally:
        watch.over.set()
        watch.join()
        service.stop()
    assert watch.seen == set(), "no command line ever held one"
    written = everything(service)
    for name, secret in [*CANARIES.items(), *enumerate(shown_once)]:
        assert secret not in answers, name
        assert secret.encode() not in written, name
    [core] = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"], "a dump of its memory would hold them"


def tried(service: Service, channel: int) -> None:
    path = f"/api/notification-channels/{channel}/deliveries"
    service.until(lambda: service.call("GET", path)["data"], lambda found: bool(found) and bool(found[0]["log"]))


def test_settings_do_not_show_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "postgresql+asyncpg://user:canary-5f1c@host/state"
    monkeypatch.setenv("LIBERU_DATABASE__URL", where)
    monkeypatch.setenv("LIBERU_DATABASE__ENGINE_URL", where)
    monkeypatch.setenv("LIBERU_MASTER_KEY", "canary-5f1c")
    monkeypatch.setenv("LIBERU_JWT__SECRET", "canary-5f1c" * 4)
    settings = Settings()
    assert settings.database_url == where
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "canary" not in shown


def every_list(service: Service) -> list[str]:
    found = []
    for path, operations in service.call("GET", "/openapi.json")["paths"].items():
        if "get" in operations and "{" not in path and path.startswith("/api") and not path.endswith("export"):
            found.append(path + ("?per_page=200" if "stats" not in path and path != "/api/deployment" else ""))
    return found
