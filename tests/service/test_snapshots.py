"""Files that change while they are backed up: a snapshot has them as they were at one moment, and goes again."""

from __future__ import annotations

import shutil
import threading
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


@pytest.fixture(scope="module")
def shared() -> Iterator[ClusterDouble]:
    """Of a site with a shell: nothing but its snapshots needs pods of ours."""
    with cluster_double() as started:
        root, claim, helper = started.root("web"), started.root("claim"), started.root("helper")
        for one in (root, helper):
            gnu_root(one)
            started.mount(one)
        (root / "site").mkdir()
        make_site(claim / "shop/html", files=20, large=1 << 18, uid=SITE_UID)
        started.snapshots.claim("site", claim)
        started.volume(root, claim / "shop", "site")
        yield started


@pytest.fixture
def cluster(shared: ClusterDouble) -> Iterator[ClusterDouble]:
    shared.pods[:] = [
        Pod(
            "shop", "web-0", {"app": "web"}, {"web": shared.folder / "web"}, node="node-7",
            volumes={
                "site": {"persistentVolumeClaim": {"claimName": "site"}}, "keys": {"secret": {"secretName": "k"}},
            },
            mounts={"web": [
                {"name": "site", "mountPath": "/site", "subPath": "shop"}, {"name": "keys", "mountPath": "/keys"},
            ]},
        )
    ]  # fmt: skip
    write(shared, "1")
    yield shared
    shared.watching = shared.hearing = None
    shared.denied.clear()
    shared.snapshots.reset()


@pytest.fixture
def service(folder: Path, cluster: ClusterDouble) -> Iterator[Service]:
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()),
        LIBERU_DEPLOYMENTS__HELPER__IMAGE="helper",
    )  # fmt: skip
    made.start()
    yield made
    made.stop()


def html(cluster: ClusterDouble) -> Path:
    return cluster.claims["site"] / "shop/html"


def write(cluster: ClusterDouble, value: str) -> None:
    """As the site does: both files always have the same."""
    for name in ("a-first.txt", "z-last.txt"):
        (html(cluster) / name).write_text(value)


def read(cluster: ClusterDouble) -> list[str]:
    return [(html(cluster) / name).read_text() for name in ("a-first.txt", "z-last.txt")]


def domain(service: Service, **setting: Any) -> dict[str, Any]:
    deployment = {"type": "kubernetes", "namespace": "shop", "selector": "app=web", "snapshots": True, **setting}
    body = {"domain_name": NAME, "document_root": "/site/html", "deployment": deployment}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


def told(backup: dict[str, Any], code: str) -> list[str]:
    return [one["message"] for one in backup["components"][0]["warnings"] if one["code"] == code]


def nothing_is_left(cluster: ClusterDouble) -> bool:
    return not cluster.snapshots.left() and [pod.name for pod in cluster.pods] == ["web-0"]


def test_what_changes_while_it_is_read_comes_back_as_it_was_at_one_moment(
    service: Service, cluster: ClusterDouble
) -> None:
    asked: list[dict[str, Any]] = []

    def watching(pod: Pod, data: bytes) -> None:
        if pod.asked and pod.asked not in asked:  # it is there: only now does the site write
            asked.append(pod.asked)
            write(cluster, "2")

    cluster.watching = watching
    cluster.snapshots.slow = 1
    made = domain(service)
    backup = service.backup(made)
    cluster.watching = None
    assert backup["status"] == "completed", backup
    assert told(backup, "snapshot_not_made") == []
    [component] = backup["components"]
    place = component["place"]
    assert (place["pod"], place["snapshot"][:16], component["warnings"]) == ("web-0", "liberu-snapshot-", [])
    spec = asked[0]["spec"]
    assert "nodeName" not in spec
    [volume] = spec["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"].startswith(place["snapshot"])
    assert read(cluster) == ["2", "2"]
    assert nothing_is_left(cluster)
    shutil.rmtree(html(cluster))
    html(cluster).mkdir()
    body = {"clear_existing": True}
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))
    assert ended["status"] == "completed", ended
    assert read(cluster) == ["1", "1"]
    assert len(asked) == 1, "a restore needs no snapshot"


@pytest.mark.parametrize("why", ["no group", "no class", "another class", "denied", "quota", "never ready", "no pod"])
def test_without_a_snapshot_the_files_are_read_as_they_are_and_why_is_told(
    service: Service, cluster: ClusterDouble, why: str
) -> None:
    snapshots, setting, reason = cluster.snapshots, dict[str, Any](), ""
    if why == "no group":
        snapshots.served, reason = False, "snapshot.storage.k8s.io/v1"
    elif why == "no class":
        snapshots.classes["fast"]["default"], reason = False, "no default VolumeSnapshotClass"
    elif why == "another class":
        setting, reason = {"snapshot_class": "slow"}, "no VolumeSnapshotClass slow of driver disks.example.com"
    elif why == "denied":
        cluster.denied, reason = {"create volumesnapshots"}, "denies `create on volumesnapshots`"
    elif why == "quota":
        snapshots.quota = reason = "exceeded quota: storage"
    elif why == "never ready":
        snapshots.slow, snapshots.error, setting = 1000, "the pool is full", {"snapshot_seconds": 1}
        reason = "not ready after 1 seconds: the pool is full"
    else:
        cluster.denied, reason = {"create pods"}, "denies `create on pods`"
    made = domain(service, **setting)
    backup = service.backup(made)
    assert backup["status"] == "completed", backup
    [message] = told(backup, "snapshot_not_made")
    assert reason in message
    assert "snapshot" not in backup["components"][0]["place"]
    assert nothing_is_left(cluster)
    found = service.call("POST", f"/api/domains/{made['id']}/detect-deployment")
    assert ("no_snapshot" in found["uses"]["files"]) == (why in ("no group", "no class", "another class"))
    denied = [one["right"] for one in found["rights"] if not one["allowed"]]
    assert denied == (["create volumesnapshots"] if why == "denied" else ["create pods"] if why == "no pod" else [])


def test_what_cannot_be_removed_is_named_and_no_more_is_made_beside_it(
    service: Service, cluster: ClusterDouble
) -> None:
    cluster.denied = {"delete volumesnapshots"}
    made = domain(service)
    backup = service.backup(made)
    [message] = told(backup, "snapshot_left")
    [(kind, name)] = cluster.snapshots.left()
    assert kind == "volumesnapshots"
    assert f"{kind} shop/{name}" in message
    again = service.backup(made)
    [message] = told(again, "snapshot_not_made")
    assert name in message
    assert cluster.snapshots.left() == [(kind, name)]
    cluster.denied = set()
    assert service.backup(made)["components"][0]["warnings"] == []
    assert nothing_is_left(cluster)


def test_one_that_is_cancelled_while_it_waits_leaves_nothing(service: Service, cluster: ClusterDouble) -> None:
    cluster.snapshots.slow = 1000
    made = domain(service)
    started = service.call("POST", "/api/backups", 202, json={"domain_id": made["id"], "type": "files"})
    service.until(
        lambda: service.call("GET", f"/api/operations/{started['id']}"),
        lambda found: any("snapshot of claim site" in one.get("waits_for", "") for one in found["progress"].values()),
    )
    service.until(cluster.snapshots.left, bool)
    service.call("POST", f"/api/operations/{started['id']}/cancel")
    assert service.wait(started)["status"] == "cancelled"
    assert nothing_is_left(cluster)


def test_what_a_service_that_was_killed_has_left_goes_with_the_next_one(
    service: Service, cluster: ClusterDouble
) -> None:
    made = domain(service)
    reading, killed = list[str](), threading.Event()

    def kill(pod: Pod, data: bytes) -> None:
        if pod.asked and not reading:
            reading.append(pod.name)
            service.kill()
            killed.set()

    cluster.watching = kill
    started = service.call("POST", "/api/backups", 202, json={"domain_id": made["id"], "type": "files"})
    assert killed.wait(60)
    cluster.watching = None
    assert {kind for kind, _ in cluster.snapshots.left()} == {"volumesnapshots", "persistentvolumeclaims"}
    service.start()
    assert service.wait(started)["status"] == "completed"
    backup = service.call("GET", f"/api/backups/{started['backup_id']}")
    assert backup["components"][0]["place"]["snapshot"] != reading[0]
    assert nothing_is_left(cluster)


def test_one_whose_pod_is_evicted_is_made_again(service: Service, cluster: ClusterDouble) -> None:
    gone: list[str] = []

    def evict(pod: Pod, data: bytes) -> None:
        if pod.asked and len(data) > 5000 and not gone:
            gone.append(pod.name)
            cluster.replace(pod, None)

    cluster.hearing = evict
    backup = service.backup(domain(service))
    assert backup["status"] == "completed", backup
    assert gone
    assert told(backup, "tried_again")
    assert backup["components"][0]["place"]["snapshot"] not in gone
    assert nothing_is_left(cluster)


def test_snapshots_need_an_image_for_the_pods_that_read_them(folder: Path, cluster: ClusterDouble) -> None:
    plain = Service(folder, LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()))
    plain.start()
    try:
        deployment = {"type": "kubernetes", "namespace": "shop", "snapshots": True}
        body = {"domain_name": NAME, "document_root": "/site/html", "deployment": deployment}
        refused = plain.call("POST", "/api/domains", 422, json=body)
        assert "LIBERU_DEPLOYMENTS__HELPER__IMAGE" in str(refused)
    finally:
        plain.stop()
