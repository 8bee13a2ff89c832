"""Which pod of several serves a domain: by its state, volumes and containers, and which database is the primary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_site import KubernetesSite
from app.deployments.places import DatabaseSetting, Place, places
from app.deployments.registry import DeploymentRegistry
from app.deployments.site import ROLES, DomainPlace, Role
from app.errors import DeploymentRefused, DeploymentUnreachable, ReplicasDiffer, TargetAmbiguous, TargetMissing
from app.schemas.domains import KubernetesDeployment
from demo.docker_engine import busybox_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double, selects
from demo.ports import free_port

SPACE = "shop"
ROOT = "/var/www/html"
DATABASE = DatabaseSetting("mariadb", "shop", None, None, None)


@pytest.fixture(scope="module")
def double() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        root = started.root("root")
        busybox_root(root)
        started.mount(root)
        yield started


@pytest.fixture
async def cluster(double: ClusterDouble) -> AsyncGenerator[Cluster, None]:
    double.pods = []
    made = Cluster(double.kubeconfig())
    yield made
    await made.close()


def claim(name: str) -> dict[str, Any]:
    return {"site": {"persistentVolumeClaim": {"claimName": name}}}


def mounted(*containers: str, **facts: Any) -> dict[str, Any]:
    return {name: [{"name": "site", "mountPath": ROOT, **facts}] for name in containers or ("web",)}


def pod(double: ClusterDouble, name: str, *containers: str, app: str = "web", **facts: Any) -> Pod:
    labels = {"app": app} | facts.pop("labels", {})
    roots: dict[str, Path] = dict.fromkeys(containers or ("web",), double.folder / "root")
    found = Pod(SPACE, name, labels, roots, **facts)
    double.pods.append(found)
    return found


def site(cluster: Cluster, seconds: float = 0, root: str = ROOT, **setting: Any) -> KubernetesSite:
    setting = {"namespace": SPACE, "selector": "app=web", "database_selector": "app=db", **setting}
    return KubernetesSite(cluster, "shop.example.com", setting, {"files": root, "mail": None}, seconds)


async def served(of: KubernetesSite, role: Role = "files", *, reads: bool = False) -> tuple[str, Any]:
    await of.at(role, reads=reads)
    serving = of.serving(role)
    assert serving is not None
    return serving.facts["pod"], serving


async def test_replicas_of_one_claim_are_one_place(double: ClusterDouble, cluster: Cluster) -> None:
    for name in ("web-b", "web-a"):
        pod(double, name, volumes=claim("site"), mounts=mounted(subPath="shop"))
    name, serving = await served(site(cluster, root=f"{ROOT}/public"))
    assert (name, serving.others) == ("web-a", ())
    assert serving.facts["volume"] == {"kind": "claim", "name": "site", "path": "shop/public"}
    assert serving.facts["node"] == "node-1"


@pytest.mark.parametrize(
    "kind", ["claims", "paths of one claim", "empty_dir", "nodes", "no volume", "an expression", "ephemeral"]
)
async def test_replicas_with_a_volume_each_are_not_restored_by_chance(
    double: ClusterDouble, cluster: Cluster, kind: str
) -> None:
    for number, name in enumerate(("web-0", "web-1")):
        facts: dict[str, Any] = {"mounts": mounted()}
        if kind == "claims":
            facts["volumes"] = claim(f"site-{name}")
        elif kind == "paths of one claim":
            facts |= {"volumes": claim("site"), "mounts": mounted(subPath=name)}
        elif kind == "empty_dir":
            facts["volumes"] = {"site": {"emptyDir": {}}}
        elif kind == "nodes":
            facts |= {"volumes": {"site": {"hostPath": {"path": "/srv"}}}, "node": f"node-{number}"}
        elif kind == "an expression":
            facts |= {"volumes": claim("site"), "mounts": mounted(subPathExpr="$(POD_NAME)")}
        elif kind == "ephemeral":
            facts["volumes"] = {"site": {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}}
        else:
            facts = {}
        pod(double, name, **facts)
    with pytest.raises(ReplicasDiffer, match=r"web-0 \(.*\), web-1 \(.*replicas: first"):
        await served(site(cluster))
    name, serving = await served(site(cluster), reads=True)
    assert (name, len(serving.others), serving.allowed) == ("web-0", 1, False)
    assert serving.others[0].startswith("web-1 (")
    name, serving = await served(site(cluster, replicas="first"))
    assert (name, len(serving.others), serving.allowed) == ("web-0", 1, True)
    told = (await site(cluster).describe())["files"]
    assert (told["pod"], len(told["others"])) == ("web-0", 1)


async def test_each_of_several_volumes_is_one_place_for_a_restore(double: ClusterDouble, cluster: Cluster) -> None:
    for name, of in (("web-0", "a"), ("web-1", "b"), ("web-2", "b")):
        pod(double, name, volumes=claim(of), mounts=mounted())
    found = await site(cluster, replicas="each").replicas("files")
    assert found is not None
    assert [(one.facts["pod"], one.key) for one in found.there] == [("web-0", "claim a"), ("web-1", "claim b")]
    assert found.absent == ()
    others: list[dict[str, Any]] = [{}, {"replicas": "first"}, {"mail_replicas": "each"}]
    for setting in others:
        assert await site(cluster, **setting).replicas("files") is None
    with pytest.raises(ReplicasDiffer, match="Only what a backup holds is restored into each"):
        await site(cluster, replicas="each").at("files")  # as an import does


async def test_a_restore_goes_into_fifty_volumes_at_most(double: ClusterDouble, cluster: Cluster) -> None:
    for number in range(50):
        pod(double, f"web-{number:02}", volumes=claim(f"site-{number}"), mounts=mounted())
    found = await site(cluster, replicas="each").replicas("files")
    assert found is not None
    assert len(found.there) == 50
    pod(double, "web-50", volumes=claim("site-50"), mounts=mounted())
    with pytest.raises(ReplicasDiffer, match=r"51 pods serve its files.*50 at most"):
        await site(cluster, replicas="each").replicas("files")


async def test_each_names_those_that_are_not_there(double: ClusterDouble, cluster: Cluster) -> None:
    double.replicas = {(SPACE, "web"): 3}
    owners = [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "1"}]
    pod(double, "web-0", volumes=claim("site-web-0"), mounts=mounted(), owners=owners)
    pod(double, "web-1", volumes=claim("site-web-1"), mounts=mounted(), owners=owners, ready=False)
    found = await site(cluster, replicas="each").replicas("files")
    assert found is not None
    assert [one.facts["pod"] for one in found.there] == ["web-0", "web-1"]
    assert found.absent == ("1 more of StatefulSet web, not there now",)
    now = await site(cluster, replicas="each").replicas("files", waits=False)
    assert now is not None
    assert [one.facts["pod"] for one in now.there] == ["web-0"]
    double.replicas = {}


@pytest.mark.parametrize("own", [True, False], ids=["empty_dir", "a claim's folder by an expression"])
async def test_a_place_is_gone_only_when_its_pod_took_it_along(
    double: ClusterDouble, cluster: Cluster, own: bool
) -> None:
    volumes = {"site": {"emptyDir": {}}} if own else claim("site")
    mounts = mounted() if own else mounted(subPathExpr="$(POD_NAME)")
    made = pod(double, "web-0", volumes=volumes, mounts=mounts)
    opened = site(cluster, replicas="each")
    found = await opened.replicas("files")
    assert found is not None
    [served] = found.there
    assert served.instance is not None
    assert (served.mortal, await opened.gone("files", served.facts, served.instance)) == (own, False)
    double.pods = []
    pod(double, "web-0", volumes=volumes, mounts=mounts)
    assert double.pods[0].uid != made.uid
    assert await opened.gone("files", served.facts, served.instance)


def test_replicas_of_a_database_are_not_restored_each() -> None:
    with pytest.raises(ValidationError, match="a database is restored into its primary"):
        KubernetesDeployment(type="kubernetes", database_replicas="each")
    assert KubernetesDeployment(type="kubernetes", replicas="each", mail_replicas="each").replicas == "each"


async def test_one_node_or_one_server_is_one_place(double: ClusterDouble, cluster: Cluster) -> None:
    for source in ({"hostPath": {"path": "/srv"}}, {"nfs": {"server": "store", "path": "/shop"}}):
        double.pods = []
        for name in ("web-0", "web-1"):
            pod(double, name, volumes={"site": source}, mounts=mounted())
        assert (await served(site(cluster)))[1].others == ()


async def test_a_worker_without_the_volume_is_not_the_site(double: ClusterDouble, cluster: Cluster) -> None:
    pod(double, "cron")
    pod(double, "web-1", volumes=claim("site"), mounts=mounted())
    name, serving = await served(site(cluster))
    assert (name, serving.others) == ("web-1", ())


async def test_a_restore_goes_on_where_it_began(double: ClusterDouble, cluster: Cluster) -> None:
    pods = [pod(double, name, volumes=claim(f"site-{name}"), mounts=mounted()) for name in ("web-0", "web-1")]
    name, serving = await served(site(cluster, replicas="first"))
    assert name == "web-0"
    pods[0].ready = False
    assert (await served(site(cluster, replicas="first")))[0] == "web-1"
    again = site(cluster)
    await again.at("files", volume=serving.volume)
    found = again.serving("files")
    assert found is not None
    assert found.facts["pod"] == "web-0"
    double.pods = pods[1:]
    with pytest.raises(TargetMissing, match="that mounts claim site-web-0"):
        await site(cluster).at("files", volume=serving.volume)


async def test_a_pod_that_is_not_there_counts_where_its_claim_is(double: ClusterDouble, cluster: Cluster) -> None:
    """Of a StatefulSet of two the second is made only when the first is ready."""
    owners = [{"kind": "StatefulSet", "name": "web", "apiVersion": "apps/v1", "uid": "1"}]
    pod(double, "web-0", volumes=claim("site-web-0"), mounts=mounted(), owners=owners)
    double.replicas = {(SPACE, "web"): 2}
    with pytest.raises(ReplicasDiffer, match="1 more of StatefulSet web, not there now"):
        await served(site(cluster))
    waiting = asyncio.create_task(served(site(cluster, 60)))
    double.listed = 0
    await wait_for(double, 1)
    pod(double, "web-1", volumes=claim("site-web-1"), mounts=mounted(), owners=owners, ready=False)
    with pytest.raises(ReplicasDiffer, match="web-1 \\(claim site-web-1"):
        await waiting
    del double.pods[1]
    assert (await served(site(cluster, replicas="first")))[0] == "web-0"
    double.replicas = {(SPACE, "web"): 1}
    assert (await served(site(cluster)))[1].others == ()
    double.replicas, double.denied = {(SPACE, "web"): 2}, {"get statefulsets"}
    assert (await served(site(cluster)))[1].others == (), "who may not ask does not know"
    double.denied = set()


async def test_a_pod_that_is_being_deleted_is_left_alone(double: ClusterDouble, cluster: Cluster) -> None:
    facts: dict[str, Any] = {"volumes": claim("site"), "mounts": mounted()}
    pod(double, "web-a", deleted=True, **facts)
    pod(double, "web-b", **facts)
    assert (await served(site(cluster)))[0] == "web-b"
    # What dies with its pod does not count; a claim stays.
    double.pods = []
    pod(double, "web-0", deleted=True, volumes=claim("site-web-0"), mounts=mounted())
    pod(double, "web-1", volumes=claim("site-web-1"), mounts=mounted())
    with pytest.raises(ReplicasDiffer):
        await served(site(cluster))
    double.pods[0].volumes = {"site": {"emptyDir": {}}}
    assert (await served(site(cluster)))[1].others == ()


async def wait_for(double: ClusterDouble, listed: int) -> None:
    async with asyncio.timeout(30):
        while double.listed < listed:
            await asyncio.sleep(0.01)


async def test_a_rollout_is_waited_for(double: ClusterDouble, cluster: Cluster) -> None:
    facts: dict[str, Any] = {"volumes": claim("site"), "mounts": mounted()}
    old = pod(double, "web-old", deleted=True, **facts)
    new = pod(double, "web-new", ready=False, phase="Pending", waiting="ContainerCreating", **facts)
    asked = site(cluster, 60)
    told: list[tuple[str, str | None]] = []
    asked.waits = lambda role, what: told.append((role, what))
    double.listed = 0
    waiting = asyncio.create_task(served(asked))
    await wait_for(double, 1)
    double.pods.remove(old)
    await wait_for(double, 2)
    new.phase = "Running"
    await wait_for(double, 3)
    new.ready, new.waiting = True, None
    assert (await waiting)[0] == "web-new"
    role, what = told[0]
    assert role == "files"
    assert what is not None
    assert "web-old is being deleted" in what
    assert "web-new is Pending (ContainerCreating)" in what
    assert told[-1] == ("files", None)


async def test_a_rollout_that_does_not_end(double: ClusterDouble, cluster: Cluster) -> None:
    pod(double, "web-old", deleted=True)
    pod(double, "web-new", ready=False, phase="Pending", waiting="ImagePullBackOff")
    with pytest.raises(TargetMissing, match=r"web-new is Pending \(ImagePullBackOff\); web-old is being deleted"):
        await served(site(cluster, 0.2))
    # A site that is damaged may never become ready: a restore has to get at it.
    double.pods[1].phase = "Running"
    assert (await served(site(cluster, 0.2)))[0] == "web-new"
    # Where there is nothing that could become one, nothing is waited for.
    double.pods[:] = [double.pods[1]]
    double.pods[0].phase = "Failed"
    async with asyncio.timeout(30):
        with pytest.raises(TargetMissing, match="web-new is Failed"):
            await served(site(cluster, 3600))


async def test_whoever_waits_can_be_cancelled(double: ClusterDouble, cluster: Cluster) -> None:
    pod(double, "web", deleted=True)
    asked = site(cluster, 3600)
    told: list[str | None] = []
    asked.waits = lambda role, what: told.append(what)
    double.listed = 0
    waiting = asyncio.create_task(served(asked))
    await wait_for(double, 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert told[-1] is None


@pytest.mark.parametrize(
    ("leader", "follower"),
    [
        ({"cnpg.io/instanceRole": "primary", "role": "primary"}, {"cnpg.io/instanceRole": "replica"}),
        ({"role": "primary"}, {"role": "replica"}),
        ({"role": "master"}, {"role": "replica"}),
        ({"mysql.percona.com/primary": "true"}, {}),
        ({"k8s.mariadb.com/role": "primary"}, {"k8s.mariadb.com/role": "replica"}),
        ({"app.kubernetes.io/component": "primary"}, {"app.kubernetes.io/component": "secondary"}),
        ({"app.kubernetes.io/component": "primary"}, {"app.kubernetes.io/component": "read"}),
        ({"spilo-role": "master"}, {"spilo-role": "replica"}),
        ({"postgres-operator.crunchydata.com/role": "master"}, {"postgres-operator.crunchydata.com/role": "replica"}),
        (
            {"postgres-operator.crunchydata.com/role": "primary"},
            {"postgres-operator.crunchydata.com/role": "replica"},
        ),
        ({"mysql.oracle.com/cluster-role": "PRIMARY"}, {"mysql.oracle.com/cluster-role": "SECONDARY"}),
        ({"kubeblocks.io/role": "primary"}, {"kubeblocks.io/role": "secondary"}),
    ],
)
async def test_the_primary_of_a_database(
    double: ClusterDouble, cluster: Cluster, leader: dict[str, str], follower: dict[str, str]
) -> None:
    replica = pod(double, "db-0", "mysql", app="db", labels=follower)
    primary = pod(double, "db-1", "mysql", app="db", labels=leader)
    name, serving = await served(site(cluster), "database")
    assert (name, serving.others) == ("db-1", ())
    # While it is replaced, no replica takes its part.
    primary.deleted = True
    with pytest.raises(TargetMissing, match=r"no running primary pod.*db-1 is being deleted"):
        await served(site(cluster), "database")
    replica.labels |= leader
    primary.labels = {"app": "db"} | follower
    assert (await served(site(cluster), "database"))[0] == "db-0"


async def test_a_database_of_which_no_label_tells(double: ClusterDouble, cluster: Cluster) -> None:
    pod(double, "db-0", "mysql", app="db", labels={"shop": "reader", "role": "database"})
    assert (await served(site(cluster), "database"))[0] == "db-0", "a single one is it"
    pod(double, "db-1", "mysql", app="db", labels={"shop": "writer", "role": "database"})
    with pytest.raises(ReplicasDiffer, match=r"db-0, db-1\. Set database_primary"):
        await served(site(cluster), "database")
    name, serving = await served(site(cluster), "database", reads=True)
    assert (name, serving.others) == ("db-0", ("db-1",))
    assert (await served(site(cluster, database_primary="shop=writer"), "database"))[0] == "db-1"
    assert (await served(site(cluster, database_replicas="first"), "database"))[1].allowed
    with pytest.raises(TargetMissing):
        await served(site(cluster, database_primary="shop=owner"), "database")
    # Two that both say so, as in a fail-over that is not over.
    for one in double.pods:
        one.labels["cnpg.io/instanceRole"] = "primary"
    with pytest.raises(ReplicasDiffer):
        await served(site(cluster), "database")


async def test_the_container_that_has_the_files(double: ClusterDouble, cluster: Cluster) -> None:
    facts: dict[str, Any] = {"volumes": claim("site")}
    for names, mounts, expected in (
        (("app", "istio-proxy"), mounted("app"), "app"),
        (("proxy", "app", "exporter"), mounted("app"), "app"),
        (("web", "app"), mounted("app"), "app"),
        (("reader", "app"), mounted("reader", readOnly=True) | mounted("app"), "app"),
        (("nginx", "php-fpm"), mounted("nginx", "php-fpm"), "php-fpm"),
        (("app", "linkerd-proxy"), {}, "app"),
    ):
        double.pods = []
        pod(double, "web-1", *names, mounts=mounts, **facts)
        assert (await served(site(cluster)))[1].facts["container"] == expected
    double.pods = []
    pod(double, "web-1", "one", "two", mounts=mounted("one", "two"), **facts)
    with pytest.raises(TargetAmbiguous, match=r"several containers \(one, two\)"):
        await served(site(cluster))
    double.pods[0].annotations["kubectl.kubernetes.io/default-container"] = "two"
    assert (await served(site(cluster)))[1].facts["container"] == "two"
    double.pods = []
    pod(double, "web-1", "app", "mesh", sidecars=("mesh",))
    assert (await served(site(cluster)))[1].facts["container"] == "app"
    assert (await served(site(cluster, container="mesh")))[1].facts["container"] == "mesh"


async def test_databases_and_mail_may_be_in_other_namespaces(double: ClusterDouble, cluster: Cluster) -> None:
    pod(double, "web-1")
    elsewhere: dict[str, Any] = {
        "database_namespace": "databases", "database_selector": "app in (db, pool),!batch", "mail_namespace": "mail",
        "mail_selector": "app",
    }  # fmt: skip
    for number, space in enumerate(("databases", "mail")):
        pod(double, f"other-{number}", app="db", labels={"batch": "yes"})
        pod(double, f"found-{number}", app="db").namespace = space
    found = site(cluster, **elsewhere)
    assert [(await served(found, role))[1].facts["namespace"] for role in ROLES] == [SPACE, "databases", "mail"]
    assert [(await served(found, role))[0] for role in ROLES] == ["web-1", "found-0", "found-1"]


async def test_a_domain_wants_the_database_of_another_ones_name(double: ClusterDouble, cluster: Cluster) -> None:
    """Of a-b.example and a.b.example, in one namespace for databases."""
    setting = {"namespace": "site", "database_namespace": "databases"}
    found = pod(double, "db-0", "mysql", app="a-b-example-db")
    found.namespace = "databases"
    for domain in ("a.b.example", "a-b.example"):
        with pytest.raises(TargetAmbiguous, match="cannot be told"):
            await KubernetesSite(cluster, domain, setting).at("database")
    found.annotations["liberu.domain"] = "a-b.example"
    await KubernetesSite(cluster, "a-b.example", setting).at("database")
    with pytest.raises(TargetAmbiguous, match="cannot be told"):
        await KubernetesSite(cluster, "a.b.example", setting).at("database")
    await KubernetesSite(cluster, "a.b.example", {**setting, "database_selector": "app=a-b-example-db"}).at(
        "database"
    )


async def test_a_domain_may_be_in_another_cluster(double: ClusterDouble, tmp_path: Path) -> None:
    double.pods = []
    pod(double, "web-1")
    here, there = double.kubeconfig(free_port()), tmp_path / "there"
    there.write_text(double.kubeconfig().read_text().replace('"double"', '"far"'))
    setting = {"type": "kubernetes", "namespace": SPACE, "selector": "app=web"}
    registry = DeploymentRegistry("unix:///nowhere", Path(f"{here}:{there}"))

    async def at(context: str | None, registry: DeploymentRegistry = registry) -> str:
        place = DomainPlace("shop.example.com", {**setting, "context": context}, ROOT)
        opened = await registry.open(place, pin)
        await opened.at("files")
        serving = opened.serving("files")
        assert serving is not None
        return str(serving.facts["pod"])

    assert await at("far") == "web-1"
    with pytest.raises(DeploymentUnreachable):
        await at("double")
    with pytest.raises(DeploymentRefused, match="nowhere"):
        await at("nowhere")
    await registry.close()
    with pytest.raises(DeploymentRefused, match="no kubeconfig"):
        await at("far", DeploymentRegistry("unix:///nowhere"))


async def pin(found: dict[str, Any]) -> None:
    raise AssertionError(found)


def test_clusters_are_places_apart() -> None:
    def of(**setting: str) -> set[Place]:
        return places("shop.example.com", {"type": "kubernetes", **setting}, "/site", "/mail", [DATABASE])

    assert not of(context="far") & of(context="near")
    assert of(context="far") == of(context="far", namespace="hosting-shop-example-com")
    differ = of() ^ of(database_namespace="databases")
    assert {place.field for place in differ} == {"databases"}


@pytest.mark.parametrize(
    ("selector", "valid"),
    [
        ("app=shop", True),
        ("app=shop,tier!=batch", True),
        ("app in (a, b),!batch,tier notin (x),example.com/part", True),
        ("app == shop", True),
        ("app in a", False),
        ("app in (a", False),
        ("app=a;b", False),
        ("app=a,", False),
        ("", False),
    ],
)
def test_selectors_of_both_kinds_may_be_set(selector: str, valid: bool) -> None:
    with nullcontext() if valid else pytest.raises(ValidationError):
        KubernetesDeployment(type="kubernetes", selector=selector, database_selector=selector)


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("a=b,c=d", True),
        ("a=x", False),
        ("a in (b, x),c", True),
        ("a notin (b)", False),
        ("!e,a!=x", True),
        ("e", False),
    ],
)
def test_the_double_knows_selectors(selector: str, fits: bool) -> None:
    assert selects(selector, {"a": "b", "c": "d"}) is fits
