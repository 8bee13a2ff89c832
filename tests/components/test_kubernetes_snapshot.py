"""Copies of claims: as they were at one moment, and gone again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.deployments import kubernetes_snapshot
from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_frozen import claims_below
from app.deployments.kubernetes_snapshot import Copies, new_name
from app.errors import DeploymentError, DeploymentRefused, TargetMissing
from demo.kubernetes_double import ClusterDouble, cluster_double

SITE = ("persistentvolumeclaims", "site")


@pytest.fixture
def double() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        started.snapshots.claim("site", started.root("claim"))
        (started.claims["site"] / "stock").write_text("before")
        yield started


@pytest.fixture
async def cluster(double: ClusterDouble) -> AsyncIterator[Cluster]:
    made = Cluster(double.kubeconfig())
    yield made
    await made.close()


def copies_of(cluster: Cluster, domain: str = "shop.example.com", installation: str = "ours") -> Copies:
    return Copies(cluster, "shop", domain, installation)


async def test_a_copy_is_as_the_claim_was_and_goes_again(double: ClusterDouble, cluster: Cluster) -> None:
    double.snapshots.slow = 1
    copies, name = copies_of(cluster), new_name()
    await copies.make(name, "site", 60)
    (double.claims["site"] / "stock").write_text("after")
    assert (double.snapshots.bind(name) / "stock").read_text() == "before"
    spec = double.snapshots.made["persistentvolumeclaims", name]["spec"]
    assert (spec["storageClassName"], spec["resources"]["requests"]["storage"]) == ("fast", "2Gi")
    assert await copies.remove([name]) == []
    assert list(double.snapshots.made) == [SITE]


async def test_an_error_that_goes_again_is_waited_for_and_one_that_stays_is_told(
    double: ClusterDouble, cluster: Cluster
) -> None:
    double.snapshots.error, double.snapshots.slow = "the pool is full", 1
    await copies_of(cluster).make(new_name(), "site", 60)
    double.snapshots.slow = 1000
    with pytest.raises(TargetMissing, match="not ready after 0 seconds: the pool is full"):
        await copies_of(cluster).make(new_name(), "site", 0)


async def test_a_quota_is_named_and_the_snapshot_removed(double: ClusterDouble, cluster: Cluster) -> None:
    double.snapshots.quota = "exceeded quota: storage"
    copies, name = copies_of(cluster), new_name()
    with pytest.raises(DeploymentRefused, match="exceeded quota: storage"):
        await copies.make(name, "site", 60)
    assert await copies.remove([name]) == []
    assert list(double.snapshots.made) == [SITE]


async def test_a_name_that_is_taken_is_left_to_whoever_has_it(double: ClusterDouble, cluster: Cluster) -> None:
    name = new_name()
    await copies_of(cluster, "other.example.com").make(name, "site", 60)
    with pytest.raises(DeploymentError, match="409"):
        await copies_of(cluster).make(name, "site", 60)
    await copies_of(cluster).remove([name])
    assert len(double.snapshots.made) == 3


async def test_only_what_is_ours_in_each_respect_counts_as_left(double: ClusterDouble, cluster: Cluster) -> None:
    ours, made = copies_of(cluster), double.snapshots.made
    await ours.make("liberu-snapshot-0123456789ab", "site", 60)
    await ours.make("liberu-snapshot-by-hand", "site", 60)
    await copies_of(cluster, installation="theirs").make("liberu-snapshot-ba9876543210", "site", 60)
    await copies_of(cluster, "other.example.com").make("liberu-snapshot-aaaaaaaaaaaa", "site", 60)
    await ours.make("liberu-snapshot-bbbbbbbbbbbb", "site", 60)
    for plural in ("volumesnapshots", "persistentvolumeclaims"):
        made[plural, "liberu-snapshot-bbbbbbbbbbbb"]["metadata"]["labels"] = {}
    assert await ours.left() == []
    stays = {"by-hand", "ba9876543210", "aaaaaaaaaaaa", "bbbbbbbbbbbb"}
    assert {name.removeprefix("liberu-snapshot-") for kind, name in made if kind == "volumesnapshots"} == stays


async def test_what_stays_is_named_and_the_rest_goes(
    double: ClusterDouble, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_snapshot, "_GONE_SECONDS", 0.0)
    copies, name = copies_of(cluster), new_name()
    await copies.make(name, "site", 60)
    double.snapshots.stuck = {"persistentvolumeclaims"}
    assert await copies.remove([name]) == [f"persistentvolumeclaims shop/{name}: it is still being deleted"]
    assert ("volumesnapshots", name) not in double.snapshots.made
    double.snapshots.stuck = set()
    double.denied = {"delete persistentvolumeclaims"}
    await copies.make(second := new_name(), "site", 60)
    [told] = await copies.remove([second])
    assert "denies `delete on persistentvolumeclaims`" in told


def pod(*mounts: tuple[str, str, dict[str, Any]]) -> Any:
    volumes, inside = [], []
    for number, (at, claim, more) in enumerate(mounts):
        source = SimpleNamespace(claim_name=claim) if claim else None
        volumes.append(SimpleNamespace(name=f"v{number}", persistent_volume_claim=source))
        inside.append(SimpleNamespace(name=f"v{number}", mount_path=at, sub_path_expr=more.get("expression")))
    spec = SimpleNamespace(
        volumes=volumes, init_containers=None, containers=[SimpleNamespace(name="web", volume_mounts=inside)]
    )
    return SimpleNamespace(spec=spec)


def test_the_claims_of_a_folder_are_those_around_and_below_it() -> None:
    site = pod(("/", "", {}), ("/site", "site", {}), ("/site/html/up", "up", {}), ("/mail", "mail", {}))
    assert claims_below(site, "web", "/site/html") == ["site", "up"]
    with pytest.raises(TargetMissing, match="/ is no claim"):
        claims_below(site, "web", "/srv")
    with pytest.raises(TargetMissing, match="/site/cache is no claim"):
        claims_below(pod(("/site", "site", {}), ("/site/cache", "", {})), "web", "/site")
    with pytest.raises(TargetMissing, match="expression"):
        claims_below(pod(("/site", "site", {"expression": "$(POD)"})), "web", "/site")
    with pytest.raises(TargetMissing, match="in no volume"):
        claims_below(pod(("/site", "site", {})), "web", "/srv")
