"""Disaster recovery of a namespace through the API: its objects are lost with it, and made again on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from app.components.kubernetes_rules import kept, stripped
from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.sample_files import make_site
from demo.sample_objects import empty, make_namespace
from demo.service import Service
from tests.service.conftest import SITE_UID, everything
from tests.service.test_access import token

SECRET = b"c2VjcmV0LWNhbmFyeQ=="


@pytest.fixture
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        root = started.root("web")
        gnu_root(root)
        started.mount(root)
        make_site(root / "site/html", files=10, large=1 << 16, uid=SITE_UID)
        started.pods.append(Pod("shop", "web", {"app": "web"}, {"web": root}))
        make_namespace(started.objects, "shop")
        yield started


@pytest.fixture
def service(folder: Path, cluster: ClusterDouble) -> Iterator[Service]:
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig())
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def domain(service: Service) -> dict[str, Any]:
    setting = {"type": "kubernetes", "namespace": "shop", "selector": "app=web", "objects": True}
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": "/site/html", "deployment": setting}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


def kept_of(cluster: ClusterDouble) -> dict[Any, Any]:
    return {key: stripped(found) for key, found in cluster.objects.found.items() if kept(found)}


def part_of(backup: dict[str, Any]) -> dict[str, Any]:
    [found] = [part for part in backup["components"] if part["kind"] == "kubernetes"]
    return dict(found)


def restored(service: Service, backup: dict[str, Any], **body: Any) -> dict[str, Any]:
    return service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))


def test_a_lost_namespace_is_made_again_on_request(
    cluster: ClusterDouble, service: Service, domain: dict[str, Any]
) -> None:
    body = {"name": "enc", "configuration": {"path": str(service.folder / "enc")}, "encrypt": True}
    destination = service.call("POST", "/api/backup-destinations", 201, json=body)
    before = kept_of(cluster)
    backup = service.backup(domain, "full", destination_id=destination["id"])
    assert backup["status"] == "completed", backup
    number = part_of(backup)["number"]
    assert SECRET not in everything(service)

    empty(cluster.objects, "shop")
    lost = deepcopy(cluster.objects.found)
    ended = restored(service, backup, clear_existing=True)
    [files] = ended["result"]["components"]
    assert (ended["status"], files["kind"]) == ("completed", "files")
    assert [(w["code"], w["subject"]) for w in files["warnings"]] == [("objects_not_restored", str(number))]
    bulk = service.call("POST", "/api/backups/bulk-restore", 202, json={"backup_ids": [backup["id"]]})
    assert service.wait(bulk)["status"] == "completed"
    assert cluster.objects.found == lost, "nobody has asked for objects"

    ended = restored(service, backup, components=[number], dry_run=True)
    [told] = ended["result"]["components"]
    assert "Deployment web" in told["facts"]["objects"]["created"]
    assert cluster.objects.found == lost, "it was tried only"

    pods, cluster.pods[:] = list(cluster.pods), []  # what is lost is its pods, too
    ended = restored(service, backup, components=[number])
    assert ended["status"] == "completed", ended
    assert kept_of(cluster) == before
    cluster.pods[:] = pods
    assert restored(service, backup, components=[number])["status"] == "completed", "what is there is the same"

    cluster.objects.found["shop", "secrets", "database"]["data"]["password"] = "bmV3"
    ended = restored(service, backup, components=[number])
    assert (ended["status"], ended["error_code"]) == ("failed", "objects_refused")
    assert "Secret database is there" in ended["error_message"]
    assert cluster.objects.found["shop", "secrets", "database"]["data"]["password"] == "bmV3"


def test_a_tenant_neither_gets_the_objects_nor_has_them_made(
    cluster: ClusterDouble, service: Service, domain: dict[str, Any]
) -> None:
    backup = service.backup(domain, "full")
    part = part_of(backup)
    tenant = token(service, 7, "backups:restore", "backups:create", "backups:read")
    asked = {"components": [part["number"]]}
    service.call("POST", f"/api/backups/{backup['id']}/restore", 403, token=tenant, json=asked)
    service.call("POST", f"/api/backups/{backup['id']}/restore", 403, token=tenant, json={**asked, "dry_run": True})
    number = part["number"]
    service.call("GET", f"/api/backups/{backup['id']}/components/{number}/download", 403, token=tenant)
    before = deepcopy(cluster.objects.found)
    operation = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, token=tenant, json={})
    assert service.wait(operation)["status"] == "completed"
    assert cluster.objects.found == before


def test_secrets_stay_out_of_what_is_not_encrypted_and_the_backup_says_so(
    service: Service, domain: dict[str, Any]
) -> None:
    backup = service.backup(domain, "full")
    assert backup["status"] == "partial"
    lacks = [(lack["code"], lack["subject"]) for lack in part_of(backup)["incomplete"]]
    assert lacks == [("secret_not_backed_up", "database")]
    assert service.backup(domain)["status"] == "completed", "its files alone have no Secrets"
    assert SECRET not in everything(service)


def test_objects_are_those_of_a_namespace_that_is_named_and_the_domains_own(
    service: Service, domain: dict[str, Any]
) -> None:
    nameless = {"domain_name": "a.example.com", "deployment": {"type": "kubernetes", "objects": True}}
    service.call("POST", "/api/domains", 422, json=nameless)
    setting = {**domain["deployment"], "selector": "app=b"}
    other = {"domain_name": "b.example.com", "document_root": "/b", "deployment": setting}
    assert service.call("POST", "/api/domains", 409, json=other)["code"] == "domain_overlap"
    made = service.call("POST", "/api/domains", 201, json={**other, "shared": True})
    part = part_of(service.backup(made, "full"))
    assert (part["status"], "objects_selector" in part["error_message"]) == ("failed", True)


def test_a_service_that_is_killed_while_it_makes_objects_makes_the_rest(
    cluster: ClusterDouble, service: Service, domain: dict[str, Any]
) -> None:
    before = kept_of(cluster)
    del before["shop", "secrets", "database"]  # nothing encrypts here
    backup = service.backup(domain, "full")
    empty(cluster.objects, "shop")
    reached = threading.Event()

    def watching(made: str) -> None:
        if made == "Deployment web":
            service.kill()
            reached.set()

    cluster.objects.watching = watching
    asked = {"components": [part_of(backup)["number"]]}
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=asked)
    assert reached.wait(60)
    assert ("shop", "cronjobs", "wp-cron") not in cluster.objects.found
    cluster.objects.watching = None
    service.start()
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert kept_of(cluster) == before
