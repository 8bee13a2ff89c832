"""Where commands are run: this machine, OpenSSH, containers with GNU tools and with busybox."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client.exceptions import ApiException

from app.deployments.base import Deployment
from app.deployments.docker import DockerDeployment, Engine
from app.deployments.docker_archive import ContainerArchive
from app.deployments.kubernetes import Cluster, KubernetesDeployment
from app.deployments.ssh import SshDeployment, server_of
from app.deployments.standalone import StandaloneDeployment
from demo.docker_engine import DockerEngine, busybox_root, docker_engine, gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.ssh_servers import SshHost, ssh_host

PLACES = [
    "standalone", "ssh", "ssh-sudo", "docker-gnu", "docker-busybox", "kubernetes-gnu", "kubernetes-busybox",
]  # fmt: skip
REAL_CLUSTER = os.environ.get("LIBERU_TEST_KUBECONFIG")
if REAL_CLUSTER:
    PLACES += ["cluster-gnu", "cluster-busybox"]


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    with docker_engine() as started:
        yield started


@pytest.fixture(scope="session")
def containers(engine: DockerEngine) -> dict[str, str]:
    """Running containers by kind."""
    found = {}
    for kind, make in (("docker-gnu", gnu_root), ("docker-busybox", busybox_root), ("docker-tarless", tarless_root)):
        root = Path(tempfile.mkdtemp(prefix="liberu-image-"))
        make(root)
        engine.image(f"{kind}:1", root)
        shutil.rmtree(root)
        found[kind] = engine.container(kind, f"{kind}:1", "sleep", "100000")
    return found


def tarless_root(root: Path) -> None:
    gnu_root(root)
    (root / "bin/tar").unlink()


def old_bash_root(root: Path) -> None:
    """GNU tools, and a shell that puts here-documents into files, as bash before 5.1 did."""
    gnu_root(root, ("bash",))
    shutil.copytree("/usr/lib/locale/C.utf8", root / "usr/lib/locale/C.utf8")
    (root / "bin/sh").unlink()
    (root / "bin/sh").write_text('#!/bin/bash\nexport BASH_COMPAT=50\nexec -a sh /bin/bash "$@"\n')
    (root / "bin/sh").chmod(0o755)


@pytest.fixture(scope="session")
def ssh() -> Iterator[SshHost]:
    with ssh_host() as host:
        yield host


@pytest.fixture(scope="session")
def ssh_sudo() -> Iterator[SshHost]:
    with ssh_host(sudo=True) as host:
        yield host


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterDouble]:
    """With a pod of GNU tools, one of busybox, and one where only a volume can be written."""
    with cluster_double() as started:
        for kind, make in (("gnu", gnu_root), ("busybox", busybox_root), ("readonly", old_bash_root)):
            root = started.root(kind)
            make(root)
            if kind == "readonly":
                (root / "data").mkdir()
                started.read_only(root)
                started.volume(root, started.root("volume"), "data")
            started.mount(root)
            started.pods.append(Pod("hosting", kind, {"app": kind}, {"web": root}))
        yield started


@pytest.fixture(scope="session")
def real_pods() -> Iterator[dict[str, str]]:
    """In a cluster that whoever runs the tests names: pods by kind, removed at the end."""
    namespace = os.environ.get("LIBERU_TEST_NAMESPACE", "default")
    images = {
        "cluster-gnu": os.environ.get("LIBERU_TEST_IMAGE", "debian:12-slim"),
        "cluster-busybox": os.environ.get("LIBERU_TEST_BUSYBOX", "busybox:1"),
    }
    names = {kind: f"liberu-test-{kind}-{secrets.token_hex(4)}" for kind in images}

    async def make() -> None:
        reached = Cluster(Path(str(REAL_CLUSTER)))
        core = await reached.core()
        for kind, image in images.items():
            container = {"name": "web", "image": image, "command": ["sleep", "100000"]}
            body: Any = {
                "metadata": {"name": names[kind]},
                "spec": {"containers": [container], "restartPolicy": "Never"},
            }
            await core.create_namespaced_pod(namespace, body)
        async with asyncio.timeout(180):
            for name in names.values():
                while (await core.read_namespaced_pod(name, namespace)).status.phase != "Running":
                    await asyncio.sleep(0.5)
        await reached.close()

    async def remove() -> None:
        reached = Cluster(Path(str(REAL_CLUSTER)))
        core = await reached.core()
        for name in names.values():
            with suppress(ApiException):
                await core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
        await reached.close()

    with ThreadPoolExecutor(1) as thread:  # a loop runs in this one already
        try:
            thread.submit(asyncio.run, make()).result()
            yield names | {"namespace": namespace}
        finally:
            thread.submit(asyncio.run, remove()).result()


async def _forget(found: dict[str, Any]) -> None:
    return None


@dataclass
class Place:
    """A deployment, and a folder there that nobody else uses."""

    kind: str
    deployment: Deployment
    folder: str

    @property
    def here(self) -> Path:
        """The folder, where it is one of this machine."""
        return Path(self.folder)

    async def sh(self, script: str, *arguments: str) -> str:
        result = await self.deployment.run(["sh", "-c", script, "sh", *arguments])
        return result.stdout.decode()


@asynccontextmanager
async def opened(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[Deployment, None]:
    if kind == "standalone":
        yield StandaloneDeployment()
    elif kind.startswith("ssh"):
        host: SshHost = request.getfixturevalue(kind.replace("-", "_"))
        deployment = SshDeployment(server_of(host.configuration), _forget)
        try:
            await deployment.prepare()
            yield deployment
        finally:
            await deployment.close()
    elif kind.startswith("cluster"):
        pods: dict[str, str] = request.getfixturevalue("real_pods")
        cluster = Cluster(Path(str(REAL_CLUSTER)))
        there = KubernetesDeployment(cluster, pods["namespace"], pods[kind], "web")
        try:
            await there.prepare()
            yield there
        finally:
            await cluster.close()
    elif kind.startswith("kubernetes"):
        double: ClusterDouble = request.getfixturevalue("cluster")
        reached = Cluster(double.kubeconfig())
        made = KubernetesDeployment(reached, "hosting", kind.partition("-")[2], "web")
        try:
            await made.prepare()
            yield made
        finally:
            await reached.close()
    else:
        started: DockerEngine = request.getfixturevalue("engine")
        container = request.getfixturevalue("containers")[kind]
        engine = Engine(started.url)
        try:
            yield DockerDeployment(engine, container, kind, ContainerArchive(engine, container, kind))
        finally:
            await engine.close()


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncGenerator[Place, None]:
    async with opened(request.param, request) as deployment:
        with ExitStack() as stack:
            if request.param.startswith(("docker", "kubernetes", "cluster")):
                made = await deployment.run(["mktemp", "-d", "/tmp/site.XXXXXX"])
                folder = made.stdout.decode().strip()
            else:
                folder = tempfile.mkdtemp(prefix="liberu-site-")
                stack.callback(shutil.rmtree, folder, True)
            await deployment.run(["chmod", "755", folder])
            yield Place(request.param, deployment, folder)
            await deployment.run(["rm", "-rf", folder])
