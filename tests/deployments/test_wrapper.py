"""What runs commands at another end (wrapper.sh), in every shell that it may find there."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator

import pytest

from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import User
from app.deployments.kubernetes import Cluster, KubernetesDeployment
from demo.docker_engine import busybox_root, gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double

SHELLS = ["dash", "bash", "busybox"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        for shell in SHELLS:
            root = started.root(shell)
            if shell == "busybox":
                busybox_root(root)
            else:
                gnu_root(root, [shell])
                (root / "bin/sh").unlink()
                (root / "bin/sh").symlink_to(shell)
            started.mount(root)
            started.pods.append(Pod("hosting", shell, {}, {"web": root}))
        yield started


@pytest.fixture(params=SHELLS)
async def pod(cluster: ClusterDouble, request: pytest.FixtureRequest) -> AsyncGenerator[KubernetesDeployment, None]:
    reached = Cluster(cluster.kubeconfig())
    deployment = KubernetesDeployment(reached, "hosting", request.param, "web")
    try:
        await deployment.prepare()
        yield deployment
    finally:
        await reached.close()


async def test_arguments_of_any_length_and_content_arrive(pod: KubernetesDeployment) -> None:
    """They are no part of the address, which an API server's proxies limit to 8 KiB or so."""
    rng = random.Random("words")
    odd = ["", "\n", "a\n\n", "'", "\\", "$(id)", "`id`", "%s\\n", "-n", "é", "\udcff\udc81\udc82", "\x01\x7f\x88"]
    words = odd + ["".join(rng.choices("ab'\n\\\"$ *é\t", k=rng.randint(1, 5000))) for _ in range(100)]
    result = await pod.run(["sh", "-c", 'printf "%s|" "$@"; cat', "sh", *words], input=b"and the input")
    expected = "".join(f"{word}|" for word in words).encode("utf-8", "surrogateescape")
    assert len(expected) > 200_000
    assert result.stdout == expected + b"and the input"


async def test_a_site_with_many_exclusions_is_backed_up(pod: KubernetesDeployment) -> None:
    await pod.run(["sh", "-c", "mkdir -p /tmp/site; cd /tmp/site; echo 1 >kept; echo 2 >left-out-1999"])
    patterns = [f"left-out-{number}{'x' * 30 if number != 1999 else ''}" for number in range(2000)]
    assert sum(map(len, patterns)) > 64 << 10
    assert await pod.tree.matching("/tmp/site", patterns) == [b"left-out-1999"]
    dump = await FilesComponent(pod, FilesTarget("/tmp/site", User(0, 0), exclusions=patterns)).dump()
    archive = b"".join([chunk async for chunk in dump.stream])
    assert b"kept" in archive
    # busybox's tar excludes nothing, and a warning says so
    assert (b"left-out" in archive) == any("exclusions" in warning.message for warning in dump.report.warnings)
