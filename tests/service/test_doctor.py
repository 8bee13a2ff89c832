"""Which rights are missing in a cluster is said before somebody needs them, and the files that grant them fit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.deployments.kubernetes_access import HELPING, LISTING, NEEDED, SNAPSHOTS, Needed
from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.sample_files import make_site
from demo.service import ROOT, Service
from tests.service.conftest import SITE_UID

RIGHTS = {f"{needed.verb} {needed.resource}" for needed in NEEDED}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        root = started.root("web")
        gnu_root(root)
        started.mount(root)
        make_site(root / "site/html", files=5, large=1 << 10, uid=SITE_UID)
        labels = {"app": "shop-example-com", "liberu.domain": "shop.example.com"}
        started.pods.append(Pod("hosting-shop-example-com", "web-0", labels, {"web": root}))
        yield started


@pytest.fixture
def service(folder: Path, cluster: ClusterDouble) -> Iterator[Service]:
    made = Service(folder, LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()))
    made.start()
    yield made
    cluster.denied.clear()
    made.stop()


def doctor(service: Service, *options: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "LIBERU_DATA": str(service.folder / "data"), **service.env}
    argv = [sys.executable, "-m", "app.cli", "doctor", "kubernetes", *options]
    return subprocess.run(argv, check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_what_is_denied_is_named_and_nothing_else(service: Service, cluster: ClusterDouble) -> None:
    body = {"domain_name": "shop.example.com", "document_root": "/site/html", "deployment": {"type": "kubernetes"}}
    domain = service.call("POST", "/api/domains", 201, json=body)
    service.call("POST", "/api/domains", 201, json={"domain_name": "elsewhere.example.com"})
    whole = doctor(service)
    assert (whole.returncode, "not allowed" in whole.stdout, "MISSING" in whole.stdout) == (0, False, False), whole
    assert "shop.example.com: files: pod web-0, container web" in whole.stdout
    assert "elsewhere" not in whole.stdout, "it does not run in pods"
    for needed in NEEDED:
        right = f"{needed.verb} {needed.resource}"
        cluster.denied = {right}
        found = service.call("POST", f"/api/domains/{domain['id']}/detect-deployment")
        denied = [one for one in found["rights"] if not one["allowed"]]
        assert {(one["right"], one["required"]) for one in denied} == {(right, needed.required)}
    cluster.denied = {"create pods/exec", "get secrets"}
    done = doctor(service, "--domain", "shop.example.com", "--json")
    [told] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, told["healthy"]) == (1, False)
    assert {one["right"] for one in told["missing"]} == cluster.denied
    assert "MISSING: create pods/exec in hosting-shop-example-com" in doctor(service).stdout
    nobody = doctor(service, "--domain", "nobody.example.com")
    assert (nobody.returncode, nobody.stderr.strip()) == (1, "There is no domain nobody.example.com")
    cluster.denied.clear()
    cluster.asked.clear()
    assert service.backup(domain)["status"] == "completed"
    assert cluster.asked and cluster.asked <= RIGHTS, "no more is wanted than the files grant"


def test_rights_that_may_not_be_asked_for_are_unknown_and_the_rest_is_told(
    service: Service, cluster: ClusterDouble
) -> None:
    body = {"domain_name": "shop.example.com", "document_root": "/site/html", "deployment": {"type": "kubernetes"}}
    domain = service.call("POST", "/api/domains", 201, json=body)
    cluster.denied = {"create selfsubjectaccessreviews"}
    found = service.call("POST", f"/api/domains/{domain['id']}/detect-deployment")
    assert found["uses"]["files"]["pod"] == "web-0"
    assert {one["right"]: one["allowed"] for one in found["rights"]} == dict.fromkeys(RIGHTS)
    done = doctor(service)
    assert (done.returncode, "MISSING" in done.stdout, "not allowed" in done.stdout) == (0, False, False), done
    assert "shop.example.com: not known, since it may not be asked" in done.stdout
    assert "shop.example.com: files: pod web-0, container web" in done.stdout


def test_the_rights_for_objects_and_the_context_are_told(folder: Path, cluster: ClusterDouble) -> None:
    config = cluster.kubeconfig()
    context = yaml.safe_load(config.read_text())["current-context"]
    made = Service(folder, LIBERU_DEPLOYMENTS__KUBECONFIG=str(config))
    made.start()
    try:
        deployment = {
            "type": "kubernetes",
            "namespace": "hosting-shop-example-com",
            "objects": True,
            "context": context,
        }
        body = {"domain_name": "shop.example.com", "document_root": "/site/html", "deployment": deployment}
        made.call("POST", "/api/domains", 201, json=body)
        assert "not allowed" not in doctor(made).stdout
        for needed in LISTING:
            cluster.denied = {f"list {needed.resource}"}
            done = doctor(made)
            assert done.returncode == 0, done
            assert f"shop.example.com (context {context}): not allowed: list {needed.resource} in" in done.stdout
    finally:
        cluster.denied.clear()
        made.stop()


def test_a_role_without_pods_and_the_rights_for_helpers(folder: Path, cluster: ClusterDouble) -> None:
    config = str(cluster.kubeconfig())
    made = Service(folder, LIBERU_DEPLOYMENTS__KUBECONFIG=config, LIBERU_DEPLOYMENTS__HELPER__IMAGE="helper")
    made.start()
    try:
        body = {
            "domain_name": "shop.example.com",
            "document_root": "/site/html",
            "deployment": {"type": "kubernetes"},
        }
        domain = made.call("POST", "/api/domains", 201, json=body)
        for needed in HELPING:
            cluster.denied = {f"{needed.verb} {needed.resource}"}
            done = doctor(made)
            assert (done.returncode, done.stdout.count("not allowed")) == (0, 1), done
            assert f"not allowed: {needed.verb} pods in hosting-shop-example-com: {needed.without}" in done.stdout
            assert "mail" not in done.stdout, "it has none"
        cluster.denied.clear()
        made.call("PUT", f"/api/domains/{domain['id']}", json={**body, "mail_path": "/mail"})
        done = doctor(made)
        assert done.returncode == 1
        assert "shop.example.com: mail: shop.example.com has no running pod" in done.stdout
    finally:
        cluster.denied.clear()
        made.stop()


def test_what_the_code_asks_a_cluster_for_is_known() -> None:
    """Each call of the API has its right in a file, and each right a call."""
    verbs = {"read": "get", "get": "get", "list": "list", "create": "create", "delete": "delete"}
    resources = {
        "stateful_set": "statefulsets", "ingress": "ingresses", "custom_object": "volumesnapshots",
        "persistent_volume_claim": "persistentvolumeclaims",
    }  # fmt: skip
    asked = set()
    for path in (ROOT / "app").rglob("*.py"):
        for verb, kind in re.findall(r"\.([a-z_]+)_namespaced_([a-z_]+)", path.read_text()):
            if (verb, kind) == ("connect_get", "pod_exec"):
                asked |= {"get pods/exec", "create pods/exec"}
            else:
                asked.add(f"{verbs[verb]} {resources.get(kind, f'{kind}s')}")
    of_namespaces = [needed for needed in (*HELPING, *SNAPSHOTS) if not needed.cluster]
    assert asked == RIGHTS | {f"{needed.verb} {needed.resource}" for needed in of_namespaces}


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("kubernetes-rbac.yaml", NEEDED),
        ("kubernetes-rbac-narrow.yaml", NEEDED),
        ("kubernetes-rbac-helper.yaml", HELPING),
        ("kubernetes-rbac-snapshots.yaml", SNAPSHOTS),
    ],
)
def test_the_files_grant_what_is_needed_and_no_more(file: str, wanted: tuple[Needed, ...]) -> None:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy" / file).read_text()))
    every = [document["rules"] for document in documents if document["kind"] in ("Role", "ClusterRole")]
    assert len(every) == 1 + any(needed.cluster for needed in wanted)
    granted = {
        (verb, group, resource)
        for rules in every
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(needed.verb, needed.group, needed.resource) for needed in wanted}
