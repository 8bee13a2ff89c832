"""A namespace's objects: what is kept of them, and that a restore makes what is not there and nothing else."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from app.archives.streams import from_bytes
from app.components import kubernetes as component
from app.components.kubernetes import KubernetesComponent
from app.components.kubernetes_archive import member, to_yaml
from app.components.kubernetes_rules import stripped
from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_objects import Document, NamespaceObjects
from app.errors import DeploymentError, ObjectsRefused, OwnershipLost
from demo.kubernetes_double import ClusterDouble, cluster_double
from demo.sample_objects import binding, empty, make_namespace, objects, workload
from tests.components.helpers import Context, codes, collect


@pytest.fixture(scope="module")
def double() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        yield started


@pytest.fixture
async def cluster(double: ClusterDouble) -> AsyncIterator[Cluster]:
    double.objects.reset()
    double.denied.clear()
    make_namespace(double.objects, "shop")
    reached = Cluster(double.kubeconfig())
    yield reached
    await reached.close()


def of(cluster: Cluster, namespace: str = "shop", selector: str | None = None) -> KubernetesComponent:
    return KubernetesComponent(NamespaceObjects(cluster, namespace, selector), sealed=True)


async def restore(cluster: Cluster, archive: bytes, namespace: str = "shop", context: Context | None = None) -> Any:
    made = context or Context()
    return await of(cluster, namespace).restore(from_bytes(archive), made.context, len(archive))


def archive_of(*documents: Any) -> bytes:
    """Whatever is in them."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for number, document in enumerate(documents):
            content = document if isinstance(document, bytes) else yaml.safe_dump(document).encode()
            entry = tarfile.TarInfo(f"{number}.yaml")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def there(double: ClusterDouble, namespace: str = "shop") -> dict[tuple[str, str], Document]:
    """Without what the cluster adds."""
    return {(key[1], key[2]): stripped(found) for key, found in double.objects.found.items() if key[0] == namespace}


async def test_an_emptied_namespace_comes_back_equal(double: ClusterDouble, cluster: Cluster) -> None:
    before = there(double)
    dump = await of(cluster).dump()
    archive = await collect(dump)
    assert dump.report.facts["objects"]["Service"] == 2
    assert codes(dump.report) == []
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
        assert len(archive) % 10240 == 0
    assert "09-Deployment/web.yaml" in names
    left = ("/default", "/kube-root", "/token", "/of-an-operator")
    assert not [name for name in names if any(part in name for part in left)]
    empty(double.objects, "shop")
    report = await restore(cluster, archive)
    assert codes(report) == []
    del before["deployments", "of-an-operator"], before["secrets", "token"]
    assert there(double) == before
    assert not [found for found in double.objects.found.values() if "ownerReferences" in found["metadata"]]
    again = await restore(cluster, archive)
    assert (again.facts["created"], again.facts["same"]) == (0, report.facts["created"])


async def test_what_is_stored_is_the_same_for_every_parser_of_yaml(cluster: Cluster) -> None:
    """Those of version 1.1 take y, no, on, 1e3, 0o7 and 12:30 for something else than text."""
    for _, document in objects():
        wanted = stripped(document)
        text = to_yaml(wanted)
        assert yaml.safe_load(text) == yaml.load(text, Loader=yaml.CSafeLoader) == wanted
    lines = to_yaml({"a": "y", "n": "1e3", "12:30": "0o7", "ok": "Opaque"}).decode().splitlines()
    assert lines == ['"a": "y"', '"n": "1e3"', '"12:30": "0o7"', "ok: Opaque"]


async def test_it_goes_into_another_namespace_with_what_names_its_own_one(
    double: ClusterDouble, cluster: Cluster
) -> None:
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "new")
    await restore(cluster, archive, "new")
    made = double.objects.found["new", "rolebindings", "site"]
    assert (made["metadata"]["namespace"], made["subjects"][0]["namespace"]) == ("new", "new")
    assert len(there(double, "new")) == len(there(double)) - 2


async def test_a_cluster_that_lost_its_namespace_says_so(double: ClusterDouble, cluster: Cluster) -> None:
    archive = await collect(await of(cluster).dump())
    with pytest.raises(ObjectsRefused, match=r"Nothing was changed.*namespaces 'gone' not found"):
        await restore(cluster, archive, "gone")


async def test_what_is_there_with_other_content_is_named_and_nothing_is_made(
    double: ClusterDouble, cluster: Cluster
) -> None:
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "shop")
    other = workload()
    other["spec"]["replicas"] = 5
    double.objects.make("shop", "deployments", other)
    before = deepcopy(double.objects.found)
    with pytest.raises(ObjectsRefused, match=r"Nothing was changed\. Applying Deployment shop/web: .*conflict"):
        await restore(cluster, archive)
    smaller = workload()
    del smaller["spec"]["replicas"]
    double.objects.found.pop(("shop", "deployments", "web"))
    double.objects.owners.pop(("shop", "deployments", "web"))
    double.objects.make("shop", "deployments", smaller)
    with pytest.raises(ObjectsRefused, match="Deployment web is there with other content"):
        await restore(cluster, archive)
    before["shop", "deployments", "web"] = double.objects.found["shop", "deployments", "web"]
    assert double.objects.found == before
    context = Context()
    told = (await of(cluster).rehearse(from_bytes(archive), context.context)).facts["objects"]
    assert told["refused"] == ["Deployment web is there with other content: it is not changed; remove it first"]
    assert "Secret database" in told["created"]
    assert double.objects.found == before


async def test_one_refusal_of_a_policy_keeps_all_from_being_made(double: ClusterDouble, cluster: Cluster) -> None:
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "shop")
    before = deepcopy(double.objects.found)
    double.objects.invalid["wp-cron"] = "violates PodSecurity"
    with pytest.raises(ObjectsRefused, match=r"wp-cron.*violates PodSecurity"):
        await restore(cluster, archive)
    assert double.objects.found == before
    assert double.objects.trials > 5


async def test_a_restore_that_stops_half_way_tells_what_it_made_and_goes_on(
    double: ClusterDouble, cluster: Cluster
) -> None:
    before = there(double)
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "shop")
    double.objects.broken.add("wp-cron")
    context = Context()
    with pytest.raises(DeploymentError, match="a race") as failed:
        await restore(cluster, archive, context=context)
    assert "; made: ServiceAccount site, " in failed.value.message
    assert "; not made: CronJob wp-cron, " in failed.value.message
    settled = await of(cluster).settle(context.context)
    assert (settled.state, "ServiceAccount site" in str(settled.detail)) == ("lost", True)
    double.objects.broken.clear()
    await restore(cluster, archive, context=context)
    assert there(double) == {k: v for k, v in before.items() if k[1] not in ("of-an-operator", "token")}
    assert (await of(cluster).settle(context.context)).state == "done"


async def test_whoever_has_lost_the_operation_makes_nothing_more(double: ClusterDouble, cluster: Cluster) -> None:
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "shop")
    before, context = deepcopy(double.objects.found), Context()
    context.fail = OwnershipLost("another attempt")
    with pytest.raises(OwnershipLost):
        await restore(cluster, archive, context=context)
    assert double.objects.found == before


async def test_long_lists_are_read_in_pages_and_what_is_too_much_is_named(
    double: ClusterDouble, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(130):
        double.objects.make("many", "configmaps", {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number:03}", "labels": {"a": "b"}},
        })  # fmt: skip
    double.objects.make("many", "services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}})
    dump = await of(cluster, "many").dump()
    archive = await collect(dump)
    assert dump.report.facts["objects"] == {"ConfigMap": 130, "Service": 1}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert len(tar.getnames()) == 131
    selected = await of(cluster, "many", "a=b").dump()
    await collect(selected)
    assert selected.report.facts["objects"] == {"ConfigMap": 130}
    monkeypatch.setattr(component, "MAX_OBJECTS", 60)
    dump = await of(cluster, "many").dump()
    await collect(dump)
    assert dump.report.facts["objects"] == {"ConfigMap": 60}
    assert [(lack.code, lack.subject) for lack in dump.report.incomplete] == [("objects_limit", "configmaps")]


async def test_kinds_that_may_not_be_read_are_named(double: ClusterDouble, cluster: Cluster) -> None:
    double.denied.add("list secrets")
    dump = await of(cluster).dump()
    await collect(dump)
    assert [(lack.code, lack.subject) for lack in dump.report.incomplete] == [("objects_not_read", "secrets")]
    assert "list on secrets" in dump.report.incomplete[0].message
    assert "Secret" not in dump.report.facts["objects"]
    assert "HTTPRoute" not in dump.report.facts["objects"], "the cluster has no such kind: no lack"


async def test_secrets_do_not_go_to_where_nothing_encrypts(double: ClusterDouble, cluster: Cluster) -> None:
    dump = await KubernetesComponent(NamespaceObjects(cluster, "shop"), sealed=False).dump()
    archive = await collect(dump)
    assert [(lack.code, lack.subject) for lack in dump.report.incomplete] == [("secret_not_backed_up", "database")]
    assert b"c2VjcmV0LWNhbmFyeQ==" not in archive


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}, "its kind is none"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}}, "its kind is none"),
        (
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a"}},
            "its kind",
        ),
        ({"apiVersion": "evil.example/v1", "kind": "Secret", "metadata": {"name": "a"}}, "not of"),
        ({"apiVersion": "../../v1", "kind": "Secret", "metadata": {"name": "a"}}, "not of"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "../kube-system"}}, "impossible name"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ["a"]}}, "no name"),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "labels": "b"}}, "malformed"),
        (["a"], "no object"),
        (b"a: &a [1]\nb: *a\n", "aliases or tags"),
        (b"a: !!python/object/apply:os.system ['true']\n", "aliases or tags"),
        (b"[" * 2000, "nested"),
        (b"a: 2001-01-01\n", "cannot be read|can be read"),
        (b"a: [", "can be read"),
        (b"", "no object"),
    ],
)
async def test_an_archive_that_is_none_of_ours_makes_nothing(
    double: ClusterDouble, cluster: Cluster, document: Any, why: str
) -> None:
    empty(double.objects, "shop")
    before = deepcopy(double.objects.found)
    good = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good", "namespace": "shop"}}
    with pytest.raises(ObjectsRefused, match=why):
        await restore(cluster, archive_of(good, document))
    assert double.objects.found == before


async def test_archives_that_are_no_tar_of_files_and_objects_that_come_twice(cluster: Cluster) -> None:
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as tar:
        entry = tarfile.TarInfo("a.yaml")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(entry)
    good = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good"}}
    for archive, why in (
        (link.getvalue(), "no file"),
        (b"x" * 20000, "cannot be read"),
        (archive_of(good, good), "twice"),
    ):
        with pytest.raises(ObjectsRefused, match=why):
            await restore(cluster, archive)


def pods(**spec: Any) -> Document:
    made = deepcopy(workload("evil", "DaemonSet"))
    made["spec"]["template"]["spec"] |= spec
    return made


@pytest.mark.parametrize(
    "document",
    [
        pods(hostNetwork=True),
        pods(volumes=[{"name": "node", "hostPath": {"path": "/"}}]),
        pods(initContainers=[{"name": "a", "securityContext": {"privileged": True}}]),
        pods(containers=[{"name": "a", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]),
        pods(containers=[{"name": "a", "ports": [{"containerPort": 1, "hostPort": 1}]}]),
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "evil"},
         "spec": {"jobTemplate": {"spec": pods(hostPID=True)["spec"]}}},
        pods(securityContext={"windowsOptions": {"hostProcess": True}}),
        pods(nodeName="control-plane"),
        pods(containers=[{"name": "a", "securityContext": {"procMount": "Unmasked"}}]),
        binding("evil", "cluster-admin", "ClusterRole"),
        binding("evil", ["site"]),
        binding("evil", "site") | {"subjects": 1},
        binding("evil", "site", "Role", "other") | {"metadata": {"name": "evil", "namespace": "shop"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "evil"}, "spec": {"externalIPs": ["10.0.0.1"]}},
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
         "metadata": {"name": "evil", "annotations": {"kubernetes.io/service-account.name": "admin"}}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "evil"},
         "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["escalate"]}]},
    ],
)  # fmt: skip
async def test_what_reaches_beyond_the_namespace_is_left_out_by_name(
    double: ClusterDouble, cluster: Cluster, document: Document
) -> None:
    empty(double.objects, "shop")
    good = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good", "namespace": "shop"}}
    report = await restore(cluster, archive_of(document, good))
    assert [(lack.code, lack.subject) for lack in report.incomplete] == [
        ("object_not_restored", f"{document['kind']} evil")
    ]
    assert "evil" not in {name for _, name in there(double)}
    assert ("configmaps", "good") in there(double)


async def test_a_default_account_of_ones_own_comes_back_unless_there_is_another(
    double: ClusterDouble, cluster: Cluster
) -> None:
    """Every namespace has one from the beginning, with nothing in it."""
    default: Document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    double.objects.make("shop", "serviceaccounts", {**default, "imagePullSecrets": [{"name": "registry"}]})
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "shop")
    key = "shop", "serviceaccounts", "default"
    assert codes(await restore(cluster, archive)) == []
    assert double.objects.found[key]["imagePullSecrets"] == [{"name": "registry"}]
    empty(double.objects, "shop")
    double.objects.make("shop", "serviceaccounts", {**default, "imagePullSecrets": [{"name": "other"}]})
    report = await restore(cluster, archive)
    assert [lack.subject for lack in report.incomplete] == ["ServiceAccount default"]
    assert double.objects.found[key]["imagePullSecrets"] == [{"name": "other"}]


async def test_a_binding_is_not_made_without_its_role(double: ClusterDouble, cluster: Cluster) -> None:
    empty(double.objects, "shop")
    role: Document = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "evil"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["escalate"]}],
    }  # fmt: skip
    bound = binding("evil", "evil") | {"metadata": {"name": "evil", "namespace": "shop"}}
    report = await restore(cluster, archive_of(role, bound))
    assert [lack.subject for lack in report.incomplete] == ["Role evil", "RoleBinding evil"]


async def test_what_binds_an_object_to_another_place_does_not_come_along(
    double: ClusterDouble, cluster: Cluster
) -> None:
    empty(double.objects, "shop")
    claim: Document = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "site", "namespace": "kube-system", "uid": "1", "finalizers": ["a/b"],
                     "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "2"}]},
        "spec": {"volumeName": "of-another-tenant", "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "x",
                                                                      "namespace": "other"}},
        "status": {"phase": "Bound"},
    }  # fmt: skip
    await restore(cluster, archive_of(claim))
    made = double.objects.found["shop", "persistentvolumeclaims", "site"]
    assert made["metadata"]["namespace"] == "shop"
    assert made["spec"]["volumeName"] != "of-another-tenant"
    assert "dataSourceRef" not in made["spec"]
    assert "ownerReferences" not in made["metadata"]


async def test_an_account_that_may_not_make_objects_changes_nothing(double: ClusterDouble, cluster: Cluster) -> None:
    archive = await collect(await of(cluster).dump())
    empty(double.objects, "shop")
    before = deepcopy(double.objects.found)
    double.denied.add("patch secrets")
    with pytest.raises(ObjectsRefused, match="create and patch on secrets"):
        await restore(cluster, archive)
    assert double.objects.found == before
    double.denied |= {f"list {plural}" for plural, _ in objects()} | {"list statefulsets", "list daemonsets"}
    dump = await of(cluster).dump()
    await collect(dump)
    assert len(dump.report.incomplete) > 10


def test_names_that_no_file_can_have(cluster: Cluster) -> None:
    long = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a" * 253}}
    with tarfile.open(fileobj=io.BytesIO(member(long) + bytes(1024))) as tar:
        [name] = tar.getnames()
    assert len(name.rpartition("/")[2]) < 255
