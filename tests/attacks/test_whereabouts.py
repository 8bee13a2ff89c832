"""A tenant wants to know who else is here, and where the operators keep everybody's backups."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import DestinationUnreachable
from app.main import create_app
from app.storage.config import LocalConfiguration, S3Configuration, SftpConfiguration
from app.storage.discreet import DiscreetDriver
from app.storage.memory import MemoryDriver
from demo.service import Service
from tests.service.conftest import SITE_UID

VICTIM, TENANT = 7, 9
WORD = "canary"


class Told:
    """What a tenant is told: none of it holds the word that all of the others' things have in their names."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.tenant, self.victim = self.token(TENANT), self.token(VICTIM)
        self.said: list[str] = []

    def token(self, user_id: int) -> str:
        body = {"name": "t", "abilities": ["*"], "user_id": user_id}
        return str(self.service.call("POST", "/api/tokens", 201, json=body)["token"])

    def ask(self, method: str, path: str, **options: Any) -> Any:
        with self.service.client(self.tenant) as client:
            answer = client.request(method, path, **options)
        assert answer.status_code < 500 or answer.status_code in (502, 507), answer.text
        self.said.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def nothing(self) -> None:
        told = [text for text in self.said if WORD in text.lower()]
        assert told == []


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-whereabouts-"))
    folder.chmod(0o755)
    made = Service(
        folder,
        LIBERU_SERVER__USER_REQUESTS_PER_MINUTE="0",
        LIBERU_SERVER__FAILURES_PER_MINUTE="0",
        LIBERU_STORAGE__RESUME_SECONDS="0",
        LIBERU_JOBS__MAX_ATTEMPTS="1",
    )
    made.start()
    yield Told(made, folder)
    made.stop()
    shutil.rmtree(folder)


def site(told: Told, name: str) -> Path:
    root = told.folder / name
    root.mkdir()
    (root / f"{name}.html").write_text(name)
    if os.geteuid() == 0:
        os.chown(root, SITE_UID, SITE_UID)
    return root


def s3(name: str) -> dict[str, Any]:
    configuration = {"key": "k", "secret": "s", "bucket": "canary-bucket", "endpoint": "http://canary.invalid"}
    return {"name": name, "type": "s3", "configuration": configuration}


@pytest.fixture(scope="module")
def theirs(told: Told) -> dict[str, int]:
    """One of everything, the victim's: ids by the names of the routes' parameters."""
    service = told.service
    root = site(told, "canary-site")
    domain = service.call("POST", "/api/domains", 201, json={
        "domain_name": "canary.example.com", "user_id": VICTIM, "document_root": str(root),
    })  # fmt: skip
    backup = service.backup(domain, name="canary")
    place = service.call("POST", "/api/backup-destinations", 201, token=told.victim, json=s3("canary bucket"))
    body = {"name": "canary", "domain_ids": [domain["id"]], "type": "files", "cadence": {"every": "day"}}
    with service.client(told.victim) as client:
        schedule = client.post("/api/backup-schedules", json=body)
    channel = service.call(
        "POST",
        "/api/notification-channels",
        201,
        told.victim,
        json={"name": "canary", "url": "http://canary.invalid/"},
    )
    return {
        "domain_id": domain["id"], "backup_id": backup["id"], "destination_id": place["id"],
        "operation_id": backup["operation"]["id"], "channel_id": channel["id"], "user_id": VICTIM, "token_id": 1,
        "schedule_id": schedule.json().get("id", 1), "delivery_id": 1, "remains_id": 1, "number": 1,
    }  # fmt: skip


def test_every_route_with_somebody_elses_ids(told: Told, theirs: dict[str, int]) -> None:
    """In the path, in the query and in bodies: 403, 404, 409 and 422 name nothing of theirs."""
    far = {"destination_id": theirs["destination_id"]}
    bodies: dict[str, list[dict[str, Any]]] = {
        "/api/backups": [{"domain_id": theirs["domain_id"], "type": "files"}, {"domain_id": 999, **far}],
        "/api/backups/bulk-restore": [{"backup_ids": [theirs["backup_id"]]}, {"domain_ids": [theirs["domain_id"]]}],
        "/api/backups/import-external": [{"source": {"type": "destination", "key": "x", **far}, "format": "cpanel"}],
        "/api/backup-schedules": [{"name": "x", "domain_ids": [theirs["domain_id"]], "type": "files"}],
        "/api/domains/by-name/x.example.com": [{"domain_name": "x.example.com", "user_id": VICTIM}],
    }
    with told.service.client(told.tenant) as client:
        for path, operations in create_app().openapi()["paths"].items():
            if not path.startswith("/api") or "/events" in path or "/uploads" in path:
                continue
            filled = re.sub(r"\{(\w+)\}", lambda match: str(theirs.get(match[1], "x.example.com")), path)
            for method in operations:
                for body in [{}, *bodies.get(filled, [])] if method in ("post", "put") else [None]:
                    answer = client.request(method, filled, json=body)
                    told.said.append(f"{method} {filled}: {answer.status_code} {answer.text}")
                    assert answer.status_code < 500, told.said[-1]
    told.nothing()


def test_a_name_wants_to_tell_whose_it_is(told: Told, theirs: dict[str, int]) -> None:
    """That it is taken, yes: whoever asks has said the name. Not by whom, nor what else they have."""
    refused = told.ask("POST", "/api/domains", json={"domain_name": "canary.example.com"})
    assert refused.status_code == 409
    assert refused.json()["detail"].endswith("is registered by somebody else: ask an operator if it is yours")
    by_name = told.ask("PUT", "/api/domains/by-name/canary.example.com", json={"domain_name": "canary.example.com"})
    assert by_name.json()["detail"] == refused.json()["detail"]
    refused = told.ask("POST", "/api/backup-destinations", json=s3("canary bucket"))
    assert refused.json()["detail"] == "The name canary bucket is taken by somebody else: choose another one"
    own = told.service.call("POST", "/api/backup-destinations", 201, told.tenant, json=s3("mine"))
    again = told.service.call("POST", "/api/backup-destinations", 409, told.tenant, json=s3("mine"))
    assert again["detail"] == "A destination named mine exists already"
    renamed = told.ask("PUT", f"/api/backup-destinations/{own['id']}", json=s3("canary bucket"))
    assert renamed.json()["detail"] == refused.json()["detail"]
    for answer in told.said[-4:]:
        assert str(VICTIM) not in json.dumps(re.sub(r'"request_id":"\w+"', "", answer))
    told.service.call("DELETE", f"/api/backup-destinations/{own['id']}", 204, told.tenant)
    told.said.clear()


def test_a_shared_destination_wants_to_be_found(told: Told) -> None:
    """What tenants see of it, and what its failures tell: a folder that has gone, a server that is not there."""
    service, where = told.service, told.folder / "canary-disk"
    local = {"name": "all", "type": "local", "configuration": {"path": str(where)}}
    sftp = {"name": "far", "type": "sftp", "configuration": {"host": "canary.invalid", "username": "canary"}}
    near = {"name": "near", "type": "ftp", "configuration": {
        "host": "127.0.0.1", "port": 9, "username": "canary", "root": "/canary", "ssl": "none",
        "allow_plaintext": True,
    }}  # fmt: skip
    places = [
        service.call("POST", "/api/backup-destinations", 201, json=body | {"encrypt": False})
        for body in (local, sftp, near, s3("store"))
    ]
    root = site(told, "own-site")
    body = {"domain_name": "own.example.com", "user_id": TENANT, "document_root": str(root)}
    domain = service.call("POST", "/api/domains", 201, json=body)
    good = service.backup(domain, destination_id=places[0]["id"])
    assert good["status"] == "completed", good
    shutil.rmtree(where)
    tried = [service.backup(domain, destination_id=place["id"]) for place in places]
    assert {backup["status"] for backup in tried} == {"failed"}
    verified = service.wait(service.call("POST", f"/api/backups/{good['id']}/verify", 202, json={}))
    restored = service.wait(service.call("POST", f"/api/backups/{good['id']}/restore", 202, json={}))
    for backup in (good, *tried):
        told.ask("GET", f"/api/backups/{backup['id']}")
        told.ask("GET", f"/api/operations/{backup['operation']['id']}")
    for operation in (verified, restored):
        told.ask("GET", f"/api/operations/{operation['id']}")
    told.ask("GET", f"/api/backups/{good['id']}/components/1/download")
    for path in ("backups", "backup-destinations", "operations", "domains"):
        told.ask("GET", f"/api/{path}?per_page=200")
    for place in places:
        seen = told.ask("GET", f"/api/backup-destinations/{place['id']}").json()
        assert (seen["configuration"], seen["secrets"]) == ({}, [])
        told.ask("GET", f"/api/backup-destinations/{place['id']}/usage")
        told.ask("POST", f"/api/backup-destinations/{place['id']}/test")
    assert not any("127.0.0.1" in text for text in told.said)
    told.said = [text.replace(str(root), "") for text in told.said]
    told.nothing()
    tested = service.call("POST", f"/api/backup-destinations/{places[0]['id']}/test")
    assert str(where) in tested["message"], "operators are told where"
    assert (
        service.call("GET", f"/api/backup-destinations/{places[1]['id']}")["configuration"]["host"]
        == "canary.invalid"
    )
    log = (told.folder / "service.log").read_text()
    assert str(where) in log


@pytest.mark.parametrize(
    ("configuration", "message", "said"),
    [
        (LocalConfiguration(path=Path("/srv/canary")), "The folder /srv/canary is gone", "The folder … is gone"),
        (LocalConfiguration(path=Path("/srv/canary")), "Making /srv/canary/x: no", "Making …/x: no"),
        (LocalConfiguration(path=Path("/")), "a/b: there is no such object", "a/b: there is no such object"),
        (SftpConfiguration(host="nas", username="u"), "nas hung up on dynasty/x", "… hung up on dynasty/x"),
        (SftpConfiguration(host="h", username="user"), "Call failed ('10.0.0.5', 22)", "Call failed …"),
        (SftpConfiguration(host="h", username="user"), "[Errno 111] to fd00::5 and ::1", "[Errno 111] to … and …"),
        (S3Configuration(key="key", bucket="canary"), "The name canary.s3.amazonaws.com cannot", "The name … cannot"),
        (S3Configuration(key="key", bucket="canary", endpoint="http://s3.canary.net:9000"),
         "http://s3.canary.net:9000 and canary.s3.canary.net at 12:30:45", "… and … at 12:30:45"),
    ],
)  # fmt: skip
async def test_what_is_left_of_an_error(configuration: Any, message: str, said: str) -> None:
    class Failing(MemoryDriver):
        async def stat(self, key: str) -> Any:
            raise DestinationUnreachable(message)

    with pytest.raises(DestinationUnreachable) as raised:
        await DiscreetDriver(Failing(), configuration.whereabouts()).stat("x")
    assert (raised.value.message, str(raised.value)) == (said, said)
