"""Which containers and pods of a domain are caches, as far as they say so."""

from __future__ import annotations

from pathlib import Path

from app.deployments.docker_site import Container, caches
from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_site import KubernetesSite
from demo.kubernetes_double import ClusterDouble, Pod

DOMAIN = "shop.example.com"
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"


def test_containers() -> None:
    found = [
        Container("1", f"{DOMAIN}_redis", "running", {}),
        Container("2", "blog.example.com_redis", "running", {}),
        Container("3", "any", "running", {"liberu.domain": DOMAIN, "liberu.role": "valkey"}),
        Container("4", "other", "running", {"liberu.domain": "blog.example.com", "liberu.role": "redis"}),
        Container("5", "shop-redis-1", "exited", {PROJECT: "shop", SERVICE: "redis"}),
        Container("6", "blog-redis-1", "running", {PROJECT: "blog", SERVICE: "redis"}),
    ]
    assert [item.id for item in caches(found, DOMAIN, {"project": "shop"})] == ["1", "3", "5"]
    assert [item.id for item in caches(found, DOMAIN, {})] == ["1", "3"]


async def test_pods(cluster: ClusterDouble) -> None:
    """Of a namespace that several domains share only those that say whose they are."""
    root = {"redis": Path("/")}
    before = list(cluster.pods)
    cluster.pods += [
        Pod("hosting-shop-example-com", "own", {"app": "cache", "liberu.domain": DOMAIN}, root),
        Pod("shared", "theirs", {"app": "cache", "liberu.domain": DOMAIN}, root),
        Pod("shared", "another", {"app": "cache", "liberu.domain": "blog.example.com"}, root),
        Pod("shared", "nobodys", {"app": "cache"}, root),
    ]
    reached = Cluster(cluster.kubeconfig())
    try:
        assert await KubernetesSite(reached, DOMAIN, {}).caches() == ["pod own"]
        assert await KubernetesSite(reached, DOMAIN, {"namespace": "shared"}).caches() == ["pod theirs"]
    finally:
        cluster.pods = before
        await reached.close()
