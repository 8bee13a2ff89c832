"""Sites in pods whose image has no shell, or no tar: a pod of ours mounts the same claim, and goes again."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="module", params=["no shell", "no tar"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        root, claim = started.root("web"), started.root("claim")
        if request.param == "no tar":
            gnu_root(root)
            (root / "bin/tar").unlink()
        (root / "site").mkdir()
        make_site(claim / "shop/html", files=30, large=1 << 20, uid=SITE_UID)
        started.claims["site"] = claim
        started.mount(root)
        started.volume(root, claim / "shop", "site")
        helper = started.root("helper")
        gnu_root(helper)
        started.mount(helper)
        started.pods.append(
            Pod(
                "shop", "web-0", {"app": "web"}, {"web": root}, node="node-7",
                volumes={
                    "site": {"persistentVolumeClaim": {"claimName": "site"}},
                    "other": {"secret": {"secretName": "keys"}},
                },
                mounts={"web": [
                    {"name": "site", "mountPath": "/site", "subPath": "shop"},
                    {"name": "other", "mountPath": "/keys"},
                ]},
            )
        )  # fmt: skip
        yield started


def service(folder: Path, cluster: ClusterDouble, **env: str) -> Service:
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()),
        **env,
    )  # fmt: skip
    made.start()
    return made


def domain(service: Service) -> dict[str, Any]:
    setting = {"type": "kubernetes", "namespace": "shop", "selector": "app=web"}
    body = {"domain_name": NAME, "document_root": "/site/html", "deployment": setting}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_is_backed_up_and_restored_by_a_pod_that_goes_again(folder: Path, cluster: ClusterDouble) -> None:
    asked: list[dict[str, Any]] = []
    cluster.watching = lambda pod, _: asked.append(pod.asked) if pod.asked and pod.asked not in asked else None
    left = Pod("shop", "liberu-helper-old", {"liberu.helper": "1"}, {}, phase="Succeeded")
    left.annotations = {"liberu.domain": NAME}
    other = Pod("shop", "liberu-helper-other", {"liberu.helper": "1"}, {}, phase="Succeeded")
    cluster.pods += [left, other]
    html = cluster.claims["site"] / "shop/html"
    before = tree(html)
    ours = service(
        folder, cluster, LIBERU_DEPLOYMENTS__HELPER__IMAGE="helper", LIBERU_DEPLOYMENTS__HELPER__MEMORY="64Mi"
    )
    try:
        made = domain(ours)
        backup = ours.backup(made)
        assert backup["status"] == "completed", backup
        place = backup["components"][0]["place"]
        assert (place["pod"], place["helper"][:14]) == ("web-0", "liberu-helper-")
        shutil.rmtree(html)
        html.mkdir()
        (html / "hacked.php").write_text("<?php")
        body = {"clear_existing": True}
        ended = ours.wait(ours.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))
        assert ended["status"] == "completed", ended
        ours.until(lambda: list(html.glob(".liberu-*")), lambda found: not found)  # what was replaced goes afterwards
        assert tree(html) == before
    finally:
        ours.stop()
        cluster.watching = None
    assert [pod.name for pod in cluster.pods] == ["web-0", "liberu-helper-other"], "another domain's is not ours"
    cluster.pods.remove(other)
    spec = asked[0]["spec"]
    assert (spec["nodeName"], spec["automountServiceAccountToken"], spec["restartPolicy"]) == (
        "node-7",
        False,
        "Never",
    )
    assert [volume["name"] for volume in spec["volumes"]] == ["site"], "and no Secret of the site's"
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "64Mi"}
    assert "app" not in asked[0]["metadata"]["labels"]


def test_without_the_setting_or_an_image_it_says_what_is_missing(folder: Path, cluster: ClusterDouble) -> None:
    plain = service(folder, cluster)
    try:
        failed = plain.backup(domain(plain))
        assert failed["status"] == "failed"
        assert failed["components"][0]["error_code"] == "tool_missing"
    finally:
        plain.stop()
    none = service(folder, cluster, LIBERU_DEPLOYMENTS__HELPER__IMAGE="not-there")
    none.token = plain.token
    try:
        made = none.call("GET", f"/api/domains/{failed['domain_id']}")
        failed = none.backup(made)
        assert "does not start" in failed["components"][0]["error_message"]
        assert "ErrImagePull" in failed["components"][0]["error_message"]
    finally:
        none.stop()
    assert [pod.name for pod in cluster.pods] == ["web-0"]
