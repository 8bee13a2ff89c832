"""Copies of claims: as they were at one moment, and gone again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_snapshot import ClaimCopy
from app.errors import DeploymentRefused, TargetMissing
from demo.kubernetes_double import ClusterDouble, cluster_double

SITE = {
    "metadata": {"name": "site", "namespace": "shop"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


@pytest.fixture
def double() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        started.claims["site"] = started.root("claim")
        (started.claims["site"] / "stock").write_text("before")
        started.snapshots.made["persistentvolumeclaims", "site"] = SITE
        yield started


@pytest.fixture
async def cluster(double: ClusterDouble) -> AsyncIterator[Cluster]:
    made = Cluster(double.kubeconfig())
    yield made
    await made.close()


def copy_of(cluster: Cluster, domain: str = "shop.example.com") -> ClaimCopy:
    return ClaimCopy(cluster, "shop", "site", domain, "abc123")


async def test_a_copy_is_as_the_claim_was_and_goes_again(double: ClusterDouble, cluster: Cluster) -> None:
    double.snapshots.slow = 1
    copy = copy_of(cluster)
    await copy.make(60)
    (double.claims["site"] / "stock").write_text("after")
    assert (double.claims[copy.name] / "stock").read_text() == "before"
    spec = double.snapshots.made["persistentvolumeclaims", copy.name]["spec"]
    assert (spec["storageClassName"], spec["resources"]["requests"]["storage"]) == ("fast", "2Gi")
    await copy.remove()
    assert list(double.snapshots.made) == [("persistentvolumeclaims", "site")]


async def test_a_snapshot_that_fails_says_why(double: ClusterDouble, cluster: Cluster) -> None:
    double.snapshots.error = "the pool is full"
    with pytest.raises(TargetMissing, match="the pool is full"):
        await copy_of(cluster).make(60)


async def test_one_that_is_never_ready_is_not_waited_for(double: ClusterDouble, cluster: Cluster) -> None:
    double.snapshots.slow = 1000
    with pytest.raises(TargetMissing, match="not ready after 0 seconds"):
        await copy_of(cluster).make(0)


async def test_a_quota_is_named_and_the_snapshot_removed(double: ClusterDouble, cluster: Cluster) -> None:
    double.snapshots.quota = "exceeded quota: storage"
    copy = copy_of(cluster)
    with pytest.raises(DeploymentRefused, match="exceeded quota: storage"):
        await copy.make(60)
    await copy.remove()
    assert list(double.snapshots.made) == [("persistentvolumeclaims", "site")]


async def test_what_another_domain_made_stays(double: ClusterDouble, cluster: Cluster) -> None:
    await copy_of(cluster, "other.example.com").make(60)
    await copy_of(cluster).remove()
    assert len(double.snapshots.made) == 3
