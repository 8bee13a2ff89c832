"""What a cluster does beyond the contract: refusals, choices, and traps that a naive client falls into."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.deployments.kubernetes import Cluster, KubernetesDeployment
from app.deployments.kubernetes_site import KubernetesSite
from app.deployments.site import DatabaseAccount
from app.errors import (
    DeploymentRefused,
    DeploymentUnreachable,
    TargetAmbiguous,
    TargetMissing,
    ToolMissing,
)
from demo.docker_engine import busybox_root
from demo.kubernetes_double import TOKEN, V4, V5, ClusterDouble, Pod, cluster_double
from demo.ports import free_port

DOMAIN = "shop.example.com"


@pytest.fixture
async def reached(cluster: ClusterDouble) -> AsyncGenerator[Cluster, None]:
    made = Cluster(cluster.kubeconfig())
    yield made
    await made.close()


@contextmanager
def changed(cluster: ClusterDouble, **values: Any) -> Iterator[None]:
    before = {name: getattr(cluster, name) for name in values}
    for name, value in values.items():
        setattr(cluster, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(cluster, name, value)


def pod(cluster: ClusterDouble, name: str, app: str, *containers: str, **facts: Any) -> Pod:
    root = cluster.pods[0].containers["web"]
    labels = {"app": app, "liberu.domain": DOMAIN}
    return Pod("hosting-shop-example-com", name, labels, dict.fromkeys(containers, root), **facts)


async def test_refusals_say_what_to_allow(cluster: ClusterDouble, reached: Cluster, tmp_path: Path) -> None:
    site = KubernetesSite(reached, DOMAIN, {})
    with changed(cluster, denied={"list pods"}), pytest.raises(DeploymentRefused, match="`list on pods`"):
        await site.at("files")
    deployment = KubernetesDeployment(reached, "hosting", "gnu", "web")
    with changed(cluster, denied={"get pods/exec"}), pytest.raises(DeploymentRefused, match="get and create on pods"):
        await deployment.run(["true"])
    with pytest.raises(TargetMissing, match="not there"):
        await KubernetesDeployment(reached, "hosting", "nothing", "web").run(["true"])
    with pytest.raises(TargetMissing, match="no such container"):
        await KubernetesDeployment(reached, "hosting", "gnu", "nothing").run(["true"])
    for text, error in (
        (cluster.kubeconfig().read_text().replace(TOKEN, "wrong"), DeploymentRefused),
        (cluster.kubeconfig(free_port()).read_text(), DeploymentUnreachable),
        ("no: configuration", DeploymentRefused),
    ):
        path = tmp_path / "kubeconfig"
        path.write_text(text)
        other = Cluster(path)
        with pytest.raises(error) as raised:
            await KubernetesSite(other, DOMAIN, {}).at("files")
        assert TOKEN not in raised.value.message
        await other.close()


async def test_the_right_pod_and_container_are_chosen(cluster: ClusterDouble, reached: Cluster) -> None:
    name = "shop-example-com"
    pods = [
        *cluster.pods,
        pod(cluster, "a-starting", name, "php-fpm", "nginx", ready=False),
        pod(cluster, "b-ready", name, "nginx", "php-fpm"),
        pod(cluster, f"{name}-db-0", f"{name}-db", "mysql", env={"MYSQL_USER": "fromenv"}),
        pod(cluster, "many", "other", "one", "two"),
        pod(cluster, "ended", "batch", "one", phase="Failed"),
    ]
    with changed(cluster, pods=pods):
        site = KubernetesSite(reached, DOMAIN, {})
        uses = await site.describe()
        assert (uses["files"]["pod"], uses["files"]["container"]) == ("b-ready", "php-fpm")
        assert uses["database"]["pod"] == f"{name}-db-0"
        assert uses["mail"]["code"] == "target_missing"
        assert (await site.database_account("mysql")).username == "fromenv"
        secrets = {("hosting-shop-example-com", f"{name}-credentials"): {"MYSQL_USER": "u", "MYSQL_PASSWORD": "p"}}
        with changed(cluster, secrets=secrets):
            account = await site.database_account("mysql")
            with changed(cluster, denied={"get secrets"}):
                assert (await site.database_account("mysql")).username == "fromenv"
        assert (account.username, account.password) == ("u", "p")
        with pytest.raises(TargetAmbiguous, match="one, two"):
            await KubernetesSite(reached, DOMAIN, {"selector": "app=other"}).at("files")
        with pytest.raises(TargetMissing, match="it has one, two"):
            await KubernetesSite(reached, DOMAIN, {"selector": "app=other", "container": "three"}).at("files")
        with pytest.raises(TargetMissing, match="ended is Failed"):
            await KubernetesSite(reached, DOMAIN, {"selector": "app=batch"}).at("files")


async def test_an_account_is_found_wherever_its_container_has_it_from(
    cluster: ClusterDouble, reached: Cluster
) -> None:
    """Without the right to read any Secret: what the container was told is in its environment."""
    name = "shop-example-com"
    secret = {"MARIADB_USER": "blog", "MARIADB_PASSWORD": "two\nlines=é", "MARIADB_ROOT_PASSWORD_FILE": "/tmp/root"}
    database = pod(cluster, f"{name}-db-0", f"{name}-db", "mariadb", env={"MARIADB_USER": "x"})
    database.secret_env = secret
    (next(iter(database.containers.values())) / "tmp/root").write_text("of a file\n")
    bitnami = pod(cluster, "pg-0", "pg", "postgresql")
    bitnami.secret_env = {
        "POSTGRESQL_USERNAME": "app", "POSTGRESQL_PASSWORD": "p", "POSTGRESQL_POSTGRES_PASSWORD_FILE": "/not/there",
    }  # fmt: skip
    with changed(cluster, pods=[*cluster.pods, database, bitnami], denied={"get secrets"}):
        account = await KubernetesSite(reached, DOMAIN, {}).database_account("mariadb")
        assert account == DatabaseAccount("blog", "two\nlines=é", "root", "of a file")
        site = KubernetesSite(reached, DOMAIN, {"database_selector": "app=pg"})
        assert await site.database_account("postgresql") == DatabaseAccount("app", "p")
    charts = {"mariadb-password": "p", "mariadb-root-password": "r", "username": "shop"}
    with changed(cluster, secrets={("hosting-shop-example-com", f"{name}-credentials"): charts}):
        account = await KubernetesSite(reached, DOMAIN, {}).database_account("mariadb")
        assert account == DatabaseAccount("shop", "p", "root", "r")


@pytest.mark.parametrize(
    ("secret", "environment", "expected"),
    [
        (  # as Bitnami's charts have it: the user is in the pod's environment, the passwords are not
            {"password": "p", "postgres-password": "r"},
            {"POSTGRES_USER": "app", "POSTGRES_PASSWORD_FILE": "/not/there"},
            DatabaseAccount("app", "p", "postgres", "r"),
        ),
        (
            {"something": "else"},
            {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": "e"},
            DatabaseAccount("app", "e"),
        ),
        (  # nobody's password is tried for somebody else
            {"username": "other"},
            {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": "e"},
            DatabaseAccount("other", None),
        ),
        (  # a whole account counts: none with more rights is looked for
            {"username": "app", "password": "p"},
            {"POSTGRESQL_POSTGRES_PASSWORD": "r"},
            DatabaseAccount("app", "p"),
        ),
    ],
)
async def test_what_a_secret_does_not_tell_its_container_does(
    cluster: ClusterDouble,
    reached: Cluster,
    secret: dict[str, str],
    environment: dict[str, str],
    expected: DatabaseAccount,
) -> None:
    database = pod(cluster, "pg-0", "pg", "postgresql")
    database.secret_env = environment
    secrets = {("hosting-shop-example-com", "accounts"): secret}
    with changed(cluster, pods=[*cluster.pods, database], secrets=secrets):
        site = KubernetesSite(reached, DOMAIN, {"database_selector": "app=pg", "credentials_secret": "accounts"})
        assert await site.database_account("postgresql") == expected


async def test_what_an_entrypoint_has_set_is_found_in_the_first_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where an agent puts passwords into a file that the container's command reads before it starts."""
    with cluster_double() as started:
        root = started.root("mysql")
        busybox_root(root)
        with monkeypatch.context() as patch:
            patch.setenv("MYSQL_USER", "not this one")
            patch.setenv("MYSQL_PASSWORD", "of the first=process")
            started.own_processes(root)
        labels = {"app": "shop-example-com-db", "liberu.domain": DOMAIN}
        started.pods.append(Pod("hosting-shop-example-com", "db-0", labels, {"mysql": root}))
        started.pods[0].secret_env = {"MYSQL_USER": "shop"}
        reached = Cluster(started.kubeconfig())
        try:
            account = await KubernetesSite(reached, DOMAIN, {}).database_account("mysql")
        finally:
            await reached.close()
        assert account == DatabaseAccount("shop", "of the first=process")


@pytest.mark.parametrize("kind", ["gnu", "busybox"])
async def test_a_cluster_that_cannot_end_input_restores_all_the_same(
    cluster: ClusterDouble, reached: Cluster, kind: str
) -> None:
    deployment = KubernetesDeployment(reached, "hosting", kind, "web")
    content = random.Random(kind).randbytes(5_000_000)
    with changed(cluster, protocols=[V4]):
        assert (await deployment.run(["echo", "dumped"])).stdout == b"dumped\n"
        result = await deployment.run(["sha256sum"], input=content)
        assert result.stdout.split()[0].decode() == hashlib.sha256(content).hexdigest()
        result = await deployment.run(["sh", "-c", "head -c 10 >/dev/null; exit 7"], input=content, check=False)
        assert result.status == 7


async def test_an_image_without_a_shell_is_told(cluster: ClusterDouble, reached: Cluster) -> None:
    empty = cluster.folder / "empty"
    empty.mkdir(exist_ok=True)
    pods = [*cluster.pods, Pod("hosting", "bare", {}, {"web": empty})]
    with changed(cluster, pods=pods), pytest.raises(ToolMissing, match="cannot run sh"):
        await KubernetesDeployment(reached, "hosting", "bare", "web").run(["true"])


async def naive(cluster: ClusterDouble, argv: list[str], content: bytes) -> str | None:
    """Sends all of stdin, closes it, and believes the status: None when there was none."""
    query = [("command", word) for word in argv] + [("container", "web"), ("stdin", "true"), ("stdout", "true")]
    url = f"wss://127.0.0.1:{cluster.port}/api/v1/namespaces/hosting/pods/gnu/exec"
    headers = {"authorization": f"Bearer {TOKEN}"}
    said = None
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.ws_connect(url, params=query, protocols=[V5], ssl=cluster.trusted()) as socket:
            connection: Any = socket._conn
            protocol = connection.protocol
            for start in range(0, len(content), 1 << 16):
                await socket.send_bytes(b"\x00" + content[start : start + (1 << 16)])
            await socket.send_bytes(b"\xff\x00")
            async for message in socket:
                if message.data[:1] == b"\x03":
                    said = str(message.data[1:])
                    break
        if protocol.closed is not None:  # aiohttp does not wait for it
            await protocol.closed
    return said


async def test_a_trap_that_cuts_input_and_reports_success(cluster: ClusterDouble, reached: Cluster) -> None:
    content = bytes(3_000_000)
    stored = cluster.pods[0].containers["web"] / "tmp/f"
    said = await naive(cluster, ["dd", "of=/tmp/f", "bs=64k"], content)
    whole = stored.stat().st_size == len(content)
    assert not whole or said is None or "Success" in said  # what the naive client sees proves nothing
    deployment = KubernetesDeployment(reached, "hosting", "gnu", "web")
    for argv in (["dd", "of=/tmp/f", "bs=64k"], ["sh", "-c", "exec cat >/tmp/f"]):
        await deployment.run(argv, input=content)
        assert stored.stat().st_size == len(content)


async def test_a_trap_that_loses_the_status(cluster: ClusterDouble, reached: Cluster) -> None:
    content = bytes(20_000_000)
    deployment = KubernetesDeployment(reached, "hosting", "gnu", "web")
    for _ in range(10):
        result = await deployment.run(["sh", "-c", "head -c 10 >/dev/null; exit 7"], input=content, check=False)
        assert result.status == 7
    lost = [await naive(cluster, ["sh", "-c", "head -c 10 >/dev/null; exit 7"], content) for _ in range(10)]
    assert None in lost, "a client that waits for the status waits in vain"
