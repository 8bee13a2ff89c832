"""`a.b.example` wants the databases and the live site of `a-b.example`: their namespaces have one name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.deployments.detector import DeploymentDetector
from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_site import KubernetesSite
from app.deployments.site import DomainPlace
from app.errors import TargetAmbiguous
from app.schemas.domains import KubernetesDeployment
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.service import Service

VICTIM, NAMESPACE = "a-b.example", "hosting-a-b-example"
ATTACKER = "a.b.example"


@pytest.fixture(scope="module")
def double() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        yield started


@pytest.fixture
async def cluster(double: ClusterDouble) -> AsyncGenerator[Cluster, None]:
    double.pods, double.hosts, double.denied = [], {}, set()
    made = Cluster(double.kubeconfig())
    yield made
    await made.close()


def pod(name: str = "web-1", **facts: Any) -> Pod:
    labels = {"app": "a-b-example"} | facts.pop("labels", {})
    return Pod(NAMESPACE, name, labels, {"web": Path("/")}, **facts)


async def names(cluster: Cluster, domain: str, **setting: str) -> list[str]:
    return [found.metadata.name for found in await KubernetesSite(cluster, domain, setting).pods("files")]


async def test_a_domain_wants_the_namespace_of_another_ones_name(double: ClusterDouble, cluster: Cluster) -> None:
    double.pods = [pod()]
    for domain in (VICTIM, ATTACKER):  # who could tell
        with pytest.raises(TargetAmbiguous, match=f"or annotate them, liberu.domain={domain}, or set the namespace"):
            await names(cluster, domain)
    double.hosts = {NAMESPACE: [VICTIM]}
    assert await names(cluster, VICTIM) == ["web-1"]
    with pytest.raises(TargetAmbiguous, match="no Ingress there is for it") as refused:
        await names(cluster, ATTACKER)
    assert VICTIM not in refused.value.message
    double.denied = {"list ingresses"}
    with pytest.raises(TargetAmbiguous, match="denies `list on ingresses`"):
        await names(cluster, VICTIM)


async def test_a_setting_that_names_no_namespace_proves_nothing(double: ClusterDouble, cluster: Cluster) -> None:
    double.pods = [pod()]
    stored = KubernetesDeployment(type="kubernetes").model_dump()  # as the domain has it: with namespace None
    with pytest.raises(TargetAmbiguous, match="cannot be told from its name"):
        await names(cluster, ATTACKER, **stored)


@pytest.mark.parametrize("how", ["labels", "annotations"])
async def test_pods_say_whose_they_are(double: ClusterDouble, cluster: Cluster, how: str) -> None:
    facts: dict[str, Any] = {how: {"liberu.domain": VICTIM}}
    double.pods = [pod(**facts)]
    assert await names(cluster, VICTIM) == ["web-1"]
    double.hosts = {NAMESPACE: [ATTACKER]}
    with pytest.raises(TargetAmbiguous, match="another domain's") as refused:
        await names(cluster, ATTACKER)
    assert VICTIM not in refused.value.message
    facts = {how: {"liberu.domain": ATTACKER}}
    double.pods.append(pod("web-2", **facts))
    with pytest.raises(TargetAmbiguous):
        await names(cluster, VICTIM)


async def test_who_says_which_namespace_need_not_prove_it(double: ClusterDouble, cluster: Cluster) -> None:
    double.pods = [pod()]
    assert await names(cluster, VICTIM, namespace=NAMESPACE) == ["web-1"]


async def test_detection_does_not_guess(double: ClusterDouble, cluster: Cluster) -> None:
    double.pods = [pod()]
    detector = DeploymentDetector(
        lambda: pytest.fail("no Docker here"), "unix:///nowhere", lambda: cluster, double.kubeconfig()
    )
    place = DomainPlace(ATTACKER, {"type": "auto"}, "/nowhere")
    with pytest.raises(TargetAmbiguous, match="cannot be told from its name"):
        await detector.detect(place)
    found = await detector.probe(place)
    assert (found.type, found.probes[0].found) == (None, False)


def test_a_second_domain_wants_to_be_registered_there(service: Service) -> None:
    body = {"domain_name": VICTIM, "deployment": {"type": "kubernetes"}, "user_id": 7}
    service.call("POST", "/api/domains", 201, json=body)
    for more in ({}, {"namespace": NAMESPACE, "selector": "app=x"}):
        body = {"domain_name": ATTACKER, "deployment": {"type": "kubernetes", **more}, "user_id": 8}
        refused = service.call("POST", "/api/domains", 409, json=body)
        assert refused["code"] == "domain_overlap"
        assert f"The namespace {NAMESPACE} of {ATTACKER} is the same as a place of {VICTIM}" in refused["detail"]
    service.call("POST", "/api/domains", 201, json=body | {"shared": True})
    apart = {"domain_name": "c.example.com", "deployment": {"type": "kubernetes", "namespace": "x"}}
    service.call("POST", "/api/domains", 201, json=apart)
    service.call("PUT", "/api/domains/by-name/d.example.com", 409, json=apart)
