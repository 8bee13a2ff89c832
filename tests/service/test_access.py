"""Who may see and do what; every error is problem details."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from demo.service import Service


def token(service: Service, user_id: int | None, *abilities: str) -> str:
    body = {"name": "t", "abilities": list(abilities), "user_id": user_id}
    return str(service.call("POST", "/api/tokens", 201, json=body)["token"])


def test_first_start_shows_one_token_and_private_keys(service: Service) -> None:
    assert service.output.count("lbk_") == 1
    for path in (service.folder / "data/keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    service.stop()
    service.start()
    assert (service.folder / "service.log").read_text().count("lbk_") == 1
    stored = b"".join(p.read_bytes() for p in (service.folder / "data").rglob("*") if p.is_file())
    assert service.token.encode() not in stored


def test_no_token_and_a_bad_one(service: Service) -> None:
    for header in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"}):
        with service.client() as client:
            client.headers.pop("Authorization")
            response = client.get("/api/backups", headers=header)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "unauthenticated"


def test_another_users_things_do_not_exist(service: Service, domain: dict[str, Any]) -> None:
    backup = service.backup(domain)
    stranger = token(service, 8, "*")
    owner = token(service, 7, "*")
    for method, path in (
        ("GET", f"/api/domains/{domain['id']}"),
        ("DELETE", f"/api/domains/{domain['id']}"),
        ("GET", f"/api/backups/{backup['id']}"),
        ("DELETE", f"/api/backups/{backup['id']}"),
        ("GET", f"/api/operations/{backup['operation']['id']}"),
        ("POST", f"/api/operations/{backup['operation']['id']}/cancel"),
        ("GET", f"/api/operations/{backup['operation']['id']}/events"),
        ("POST", f"/api/operations/{backup['operation']['id']}/ticket"),
    ):
        assert service.call(method, path, 404, token=stranger)["code"] == "not_found"
    service.call("POST", f"/api/backups/{backup['id']}/restore", 404, token=stranger, json={})
    service.call("POST", "/api/backups", 404, token=stranger, json={"domain_id": domain["id"]})
    for path in ("/api/domains", "/api/backups", "/api/operations"):
        assert service.call("GET", path, token=stranger)["total"] == 0
        assert service.call("GET", path, token=owner)["total"] == 1
    assert service.call("GET", "/api/backups/stats", token=stranger)["total_backups"] == 0


def test_a_tenant_cannot_set_what_only_operators_may(service: Service, folder: Path) -> None:
    tenant = token(service, 7, "*")
    body = {"domain_name": "own.example.com", "document_root": str(folder / "x")}
    service.call("POST", "/api/domains", 403, token=tenant, json=body)
    made = service.call(
        "POST", "/api/domains", 201, token=tenant, json={"domain_name": "own.example.com", "user_id": 9}
    )
    assert made["user_id"] == 7
    destination = {"name": "x", "configuration": {"path": "/etc"}}
    service.call("POST", "/api/backup-destinations", 403, token=tenant, json=destination)
    service.call("GET", "/api/tokens", 403, token=tenant)
    service.call("GET", "/api/audit-events", 403, token=tenant)


def test_abilities(service: Service, domain: dict[str, Any]) -> None:
    reading = token(service, None, "backups:read")
    service.call("GET", "/api/backups", token=reading)
    service.call("POST", "/api/backups", 403, token=reading, json={"domain_id": domain["id"]})
    creating = token(service, None, "backups:create")
    service.call("GET", "/api/backups", 403, token=creating)


def test_a_revoked_token_ends_at_once(service: Service) -> None:
    body = {"name": "short", "abilities": ["backups:read"]}
    made = service.call("POST", "/api/tokens", 201, json=body)
    service.call("GET", "/api/backups", token=made["token"])
    service.call("DELETE", f"/api/tokens/{made['id']}", 204)
    service.call("GET", "/api/backups", 401, token=made["token"])


def test_what_changes_or_is_refused_is_audited(service: Service, domain: dict[str, Any]) -> None:
    service.call("GET", "/api/backups", 401, token="wrong")
    service.call("GET", "/api/domains/999", 404)
    events = service.call("GET", "/api/audit-events?per_page=50")["data"]
    found = {(event["action"], event["outcome"]) for event in events}
    assert ("POST /api/domains", "201") in found
    assert ("GET /api/backups", "401") in found


def test_bad_input_names_the_field(service: Service, domain: dict[str, Any]) -> None:
    for body, field in (
        ({"domain_name": "-rf"}, "domain_name"),
        ({"domain_name": "../../etc"}, "domain_name"),
        ({"domain_name": "a.example.com", "document_root": "/etc"}, "document_root"),
        ({"domain_name": "a.example.com", "document_root": "/home/../etc"}, "document_root"),
        ({"domain_name": "a.example.com", "system_user": "--root"}, "system_user"),
        ({"domain_name": "a.example.com", "system_user": "0"}, "system_user"),
        ({"domain_name": "a.example.com", "databases": [{"engine": "mysql", "name": "a\nb"}]}, "databases.0.name"),
    ):
        problem = service.call("POST", "/api/domains", 422, json=body)
        assert field in problem["errors"], problem
    service.call("POST", "/api/backups", 404, json={"domain_id": 999})
    service.call("POST", "/api/backups", 422, json={"domain_id": domain["id"], "type": "email"})
    service.call("POST", "/api/backups", 404, json={"domain_id": domain["id"], "destination_id": 999})
    service.call("GET", "/api/backups?per_page=201", 422)


def test_a_second_backup_of_a_domain_is_refused_while_one_runs(service: Service, domain: dict[str, Any]) -> None:
    body = {"domain_id": domain["id"], "type": "files"}
    first = service.call("POST", "/api/backups", 202, json=body)
    assert service.call("POST", "/api/backups", 409, json=body)["code"] == "already_running"
    service.wait(first)
    assert service.call("GET", "/api/backups")["total"] == 1


def test_idempotency_key(service: Service, domain: dict[str, Any]) -> None:
    body = {"domain_id": domain["id"], "type": "files"}
    headers = {"Idempotency-Key": "k1"}
    first = service.call("POST", "/api/backups", 202, json=body, headers=headers)
    again = service.call("POST", "/api/backups", 202, json=body, headers=headers)
    assert first["id"] == again["id"]
    other = service.call("POST", "/api/backups", 422, json={**body, "name": "x"}, headers=headers)
    assert other["code"] == "idempotency_mismatch"


def test_default_destination_rules(service: Service, domain: dict[str, Any]) -> None:
    default = service.call("GET", "/api/backup-destinations")["data"][0]
    assert default["is_default"]
    problem = service.call("DELETE", f"/api/backup-destinations/{default['id']}", 409)
    assert problem["detail"] == "Cannot delete the default backup destination"
    body = {"name": "two", "configuration": {"path": str(service.folder / "two")}, "is_default": True}
    second = service.call("POST", "/api/backup-destinations", 201, json=body)
    assert not service.call("GET", f"/api/backup-destinations/{default['id']}")["is_default"]
    service.backup(domain, destination_id=default["id"])
    problem = service.call("DELETE", f"/api/backup-destinations/{default['id']}", 409)
    assert problem["detail"] == "Cannot delete a destination that has backups"
    assert service.call("POST", f"/api/backup-destinations/{second['id']}/test")["connected"]
    (service.folder / "file").write_text("x")
    body = {"name": "bad", "configuration": {"path": str(service.folder / "file")}}
    bad = service.call("POST", "/api/backup-destinations", 201, json=body)
    assert not service.call("POST", f"/api/backup-destinations/{bad['id']}/test")["connected"]


def test_upsert_by_name_and_a_new_domain_inherits_no_backups(service: Service, domain: dict[str, Any]) -> None:
    service.backup(domain)
    body = {"domain_name": domain["domain_name"], "user_id": 7, "exclusions": ["cache"]}
    changed = service.call("PUT", "/api/domains/by-name/shop.example.com", json=body)
    assert (changed["id"], changed["exclusions"]) == (domain["id"], ["cache"])
    service.call("DELETE", f"/api/domains/{domain['id']}", 204)
    again = service.call("POST", "/api/domains", 201, json={"domain_name": "shop.example.com", "user_id": 8})
    assert again["id"] != domain["id"]
    assert service.call("GET", f"/api/backups?domain_id={again['id']}")["total"] == 0
    assert service.call("GET", "/api/backups", token=token(service, 8, "*"))["total"] == 0


def test_stats_and_labels(service: Service, domain: dict[str, Any]) -> None:
    backup = service.backup(domain)
    assert backup["type_label"] == "Files Only"
    stats = service.call("GET", "/api/backups/stats")
    assert (stats["total_backups"], stats["completed_backups"]) == (1, 1)
    assert stats["total_size_bytes"] == backup["file_size"]
    assert stats["latest_backup"] == stats["oldest_backup"] == backup["completed_at"]
    assert json.dumps(stats)
