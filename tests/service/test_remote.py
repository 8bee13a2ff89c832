"""Backups at remote destinations, through the API: made, listed, restored, deleted; secrets shown nowhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.destinations import SERVERS
from demo.sample_files import differences, snapshot
from demo.service import Service
from demo.storage_servers import StorageServer
from tests.service.conftest import everything


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[StorageServer]:
    if request.param == "s3":
        yield request.getfixturevalue("s3_store")
        return
    with SERVERS[request.param]() as started:
        yield started


@pytest.fixture
def destination(service: Service, server: StorageServer) -> dict[str, Any]:
    body = {"name": "remote", "type": server.type, "configuration": server.fresh()}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=body)
    return made


def usage(service: Service, destination: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.call("GET", f"/api/backup-destinations/{destination['id']}/usage")
    return found


def test_backup_restore_and_delete(
    service: Service, domain: dict[str, Any], site: Path, destination: dict[str, Any]
) -> None:
    assert destination["encrypt"], "on for remote destinations unless switched off"
    before = snapshot(site)
    backup = service.backup(domain, destination_id=destination["id"])
    assert backup["status"] == "completed", backup
    found = usage(service, destination)
    assert (found["backups"], found["objects"], found["bytes"]) == (1, 3, backup["file_size"])
    shutil.rmtree(site / "d01")
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    service.call("DELETE", f"/api/backup-destinations/{destination['id']}", 409)
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
    assert usage(service, destination)["objects"] == 0
    service.call("DELETE", f"/api/backup-destinations/{destination['id']}", 204)


def test_the_connection_test_names_each_step(
    service: Service, destination: dict[str, Any], server: StorageServer
) -> None:
    path = f"/api/backup-destinations/{destination['id']}"
    found = service.call("POST", f"{path}/test")
    assert found["connected"], found
    counted = [] if destination["type"] == "s3" else ["connections"]
    assert [(check["name"], check["passed"]) for check in found["checks"]] == [
        (name, True) for name in ("prepared", "write", "read", "compare", "list", "delete", *counted)
    ]
    body = {"name": "remote", "type": destination["type"], "configuration": destination["configuration"]}
    service.call("PUT", path, json={**body, "configuration": body["configuration"] | server.wrong})
    found = service.call("POST", f"{path}/test")
    assert not found["connected"]
    assert found["checks"] == [{"name": "write", "passed": False, "message": found["message"]}]
    assert "check" in found["message"], "what to do"


def test_secrets_are_write_only_and_encrypted(
    service: Service, destination: dict[str, Any], server: StorageServer
) -> None:
    path = f"/api/backup-destinations/{destination['id']}"
    assert destination["secrets"] == sorted(
        {"password", "private_key", "passphrase", "secret"} & server.configuration.keys()
    )
    body = {"name": "renamed", "type": destination["type"], "configuration": destination["configuration"]}
    changed = service.call("PUT", path, json=body)
    assert changed["secrets"] == destination["secrets"], "left out, they stay"
    assert service.call("POST", f"{path}/test")["connected"]
    elsewhere = service.call("PUT", path, json={**body, "configuration": body["configuration"] | server.away})
    assert elsewhere["secrets"] == [], "another server does not get them"
    answers = json.dumps(
        [destination, changed, service.call("GET", path), service.call("GET", path.rsplit("/", 1)[0])]
    )
    assert server.secret not in answers
    assert server.secret.encode() not in everything(service)


_BAD: dict[str, tuple[tuple[dict[str, Any], str], ...]] = {
    "sftp": (
        ({"host": "169.254.169.254"}, "host"),
        ({"host": "-oProxyCommand=x"}, "configuration.host"),
        ({"port": 0}, "configuration.port"),
        ({"root": "relative"}, "configuration.root"),
    ),
    "ftp": (
        ({"host": "169.254.169.254"}, "host"),
        ({"host": "ftp.example.com\r\nDELE x"}, "configuration.host"),
        ({"username": "x\r\nDELE y"}, "configuration.username"),
        ({"password": "x\r\nDELE y"}, "configuration.password"),
        ({"ssl": False, "allow_plaintext": False}, "configuration"),
        ({"root": "/a\nb"}, "configuration.root"),
    ),
    "s3": (
        ({"endpoint": "http://169.254.169.254"}, "host"),
        ({"endpoint": "http://[::ffff:169.254.169.254]:80"}, "host"),
        ({"endpoint": "file:///etc/passwd"}, "configuration.endpoint"),
        ({"bucket": "../other"}, "configuration.bucket"),
        ({"prefix": "a/../b"}, "configuration.prefix"),
    ),
}


def test_bad_configurations_name_the_field(service: Service, server: StorageServer) -> None:
    good = server.fresh()
    for change, where in (*_BAD[server.type], ({"surprise": 1}, "configuration.surprise")):
        body = {"name": "bad", "type": server.type, "configuration": good | change}
        problem = service.call("POST", "/api/backup-destinations", 422, json=body)
        assert [where] == list(problem["errors"]), problem
        assert server.secret not in json.dumps(problem)


def test_a_tenant_has_destinations_of_its_own_only(service: Service, destination: dict[str, Any]) -> None:
    made = {"name": "tenant", "abilities": ["destinations:manage", "backups:read"], "user_id": 7}
    token = service.call("POST", "/api/tokens", 201, json=made)["token"]
    body = {"type": destination["type"], "configuration": destination["configuration"]}
    shared = f"/api/backup-destinations/{destination['id']}"
    service.call("PUT", shared, 403, token, json={"name": "remote", **body})
    service.call("POST", f"{shared}/test", 403, token)
    service.call("POST", "/api/backup-destinations", 403, token, json={"name": "d", "is_default": True, **body})
    own_body = {"name": "own", "user_id": 8, **body}
    refused = service.call("POST", "/api/backup-destinations", 422, token, json=own_body)
    assert refused["code"] == "address_forbidden", "this machine's own servers are no tenant's"
    service.stop()
    service.env["LIBERU_STORAGE__ALLOW_PRIVATE"] = "true"
    service.start()
    own = service.call("POST", "/api/backup-destinations", 201, token, json=own_body)
    assert own["user_id"] == 7
    other = service.call("POST", "/api/tokens", 201, json=made | {"user_id": 8})["token"]
    service.call("GET", f"/api/backup-destinations/{own['id']}", 404, other)
    service.call("DELETE", f"/api/backup-destinations/{own['id']}", 204, token)


def test_a_server_that_is_away_fails_honestly(
    service: Service, domain: dict[str, Any], destination: dict[str, Any], server: StorageServer
) -> None:
    path = f"/api/backup-destinations/{destination['id']}"
    configuration = destination["configuration"] | server.away
    service.call("PUT", path, json={"name": "r", "type": destination["type"], "configuration": configuration})
    backup = service.backup(domain, destination_id=destination["id"])
    assert backup["status"] == "failed", backup
    assert "cannot be reached" in backup["error_message"]
