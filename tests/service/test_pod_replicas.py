"""A site of several pods: what is read and restored is said, and no restore changes one of several by chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.sample_files import make_site
from demo.service import Service
from tests.service.conftest import SITE_UID

NAME = "shop.example.com"


@pytest.fixture
def cluster() -> Iterator[ClusterDouble]:
    """A StatefulSet of two, each with a claim of its own."""
    with cluster_double() as started:
        for name in ("web-0", "web-1"):
            root = started.root(name)
            gnu_root(root)
            started.mount(root)
            make_site(root / "site/html", files=20, large=1 << 16, uid=SITE_UID)
            (root / "site/html/who").write_text(name)
            volumes = {"site": {"persistentVolumeClaim": {"claimName": f"site-{name}"}}}
            mounts = {"web": [{"name": "site", "mountPath": "/site"}]}
            started.pods.append(Pod("shop", name, {"app": "web"}, {"web": root}, volumes=volumes, mounts=mounts))
        yield started


@pytest.fixture
def service(folder: Path, cluster: ClusterDouble) -> Iterator[Service]:
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()),
        LIBERU_DEPLOYMENTS__ROLLOUT_SECONDS="30",
    )  # fmt: skip
    made.start()
    yield made
    made.stop()


def domain(service: Service, **deployment: Any) -> dict[str, Any]:
    setting = {"type": "kubernetes", "namespace": "shop", "selector": "app=web", **deployment}
    body = {"domain_name": NAME, "document_root": "/site/html", "deployment": setting}
    made: dict[str, Any] = service.call("PUT", f"/api/domains/by-name/{NAME}", 200, json=body)
    return made


def restored(service: Service, backup: dict[str, Any], **body: Any) -> dict[str, Any]:
    asked = {"clear_existing": True, **body}
    return service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=asked))


def test_a_restore_does_not_change_one_of_two_and_call_it_done(cluster: ClusterDouble, service: Service) -> None:
    html = {name: cluster.folder / name / "site/html" for name in ("web-0", "web-1")}
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    made = domain(service)
    backup = service.backup(made)
    part = backup["components"][0]
    assert (backup["status"], part["place"]["pod"]) == ("partial", "web-0")
    assert part["place"]["volume"] == {"kind": "claim", "name": "site-web-0", "path": "html"}
    assert [lack["subject"] for lack in part["incomplete"]] == ["web-1 (claim site-web-1, html)"]
    for root in html.values():
        (root / "hacked.php").write_text("<?php")
    refused = restored(service, backup)
    assert (refused["status"], refused["error_code"]) == ("failed", "replicas_differ")
    assert "web-1 (claim site-web-1, html)" in refused["error_message"]
    assert all((root / "hacked.php").exists() for root in html.values()), "and neither was changed"

    made = domain(service, replicas="first")
    backup = service.backup(made)
    assert (backup["status"], backup["components"][0]["place"]["container"]) == ("completed", "web")
    (html["web-0"] / "who").unlink()
    ended = restored(service, backup)
    [part] = ended["result"]["components"]
    assert (ended["status"], part["place"]["pod"]) == ("completed", "web-0")
    named = [(found["code"], found["subject"]) for found in part["warnings"]]
    assert ("replica_not_restored", "web-1 (claim site-web-1, html)") in named
    assert (html["web-0"] / "who").read_text() == "web-0"


def test_a_restore_that_was_interrupted_goes_on_where_it_began(cluster: ClusterDouble, service: Service) -> None:
    html = {name: cluster.folder / name / "site/html" for name in ("web-0", "web-1")}
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    backup = service.backup(domain(service, replicas="first"))
    for root in html.values():
        (root / "hacked.php").write_text("<?php")
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    service.until(lambda: list(html["web-0"].glob(".liberu-restore-*")), lambda found: found, pause=0.002)
    service.kill()
    cluster.pods[0].ready, cluster.listed = False, 0  # now web-1 is the first that is ready
    service.start()
    service.until(lambda: cluster.listed, lambda listed: listed > 1)  # it was asked, and waits
    cluster.pods[0].ready = True
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert not (html["web-0"] / "hacked.php").exists()
    assert (html["web-1"] / "hacked.php").exists()
    assert (html["web-1"] / "who").read_text() == "web-1"
    assert not list(html["web-1"].glob(".liberu-restore-*"))


def test_an_operation_tells_that_it_waits_for_a_pod_and_can_be_cancelled(
    cluster: ClusterDouble, service: Service
) -> None:
    del cluster.pods[1]
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    made = domain(service)
    cluster.pods[0].deleted = True

    def waiting() -> dict[str, Any]:
        started = service.call("POST", "/api/backups", 202, json={"domain_id": made["id"], "type": "files"})
        seen: dict[str, Any] = service.until(
            lambda: service.call("GET", f"/api/operations/{started['id']}"),
            lambda found: found["progress"].get("1", {}).get("waits_for"),
        )
        assert seen["progress"]["1"]["waits_for"] == "a pod that is ready, for its files: web-0 is being deleted"
        return seen

    operation = waiting()
    cluster.pods[0].deleted = False  # as its replacement is
    ended = service.wait(operation)
    assert (ended["status"], "waits_for" in ended["progress"]["1"]) == ("completed", False)
    cluster.pods[0].deleted = True
    operation = waiting()
    service.call("POST", f"/api/operations/{operation['id']}/cancel")
    assert service.wait(operation)["status"] == "cancelled"
