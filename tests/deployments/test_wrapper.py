"""What runs commands at another end (wrapper.sh), in every shell that it may find there."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.deployments import remote
from app.deployments.base import User
from app.deployments.checksums import CHECKSUMS
from app.deployments.kubernetes import Cluster, KubernetesDeployment
from demo.docker_engine import busybox_root, gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.servers import MariadbServer
from tests.components.helpers import Context, MemorySafety, collect
from tests.database_servers import mariadb

__all__ = ["mariadb"]

WRAPPER = Path(remote.__file__).with_name("wrapper.sh")
SHELLS = ["dash", "bash", "busybox"]
#: The first process of each container, which waits for no other.
firsts: dict[str, int] = {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        for shell in SHELLS:
            root = started.root(shell)
            if shell == "busybox":
                busybox_root(root)
            else:
                gnu_root(root, [shell, "mariadb", "mariadb-dump"])
                (root / "bin/sh").unlink()
                (root / "bin/sh").symlink_to(shell)
            firsts[shell] = started.own_processes(root)
            started.pods.append(Pod("hosting", shell, {}, {"web": root}))
        yield started
        firsts.clear()


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


def left(first: int) -> list[str]:
    """Processes that ended and are waited for by nobody, and those that run on."""
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [Path(f"/proc/{child}/stat").read_text()[:60] for child in children]


@pytest.fixture
async def nothing_left(pod: KubernetesDeployment) -> AsyncGenerator[None, None]:
    first = firsts[pod._pod]
    before = left(first)
    yield
    async with asyncio.timeout(10):
        while any(" Z " not in found for found in left(first)):  # what is about to end
            await asyncio.sleep(0.05)
    assert left(first) == before


async def _endless() -> ByteStream:
    while True:
        yield bytes(1 << 20)


async def _broken() -> ByteStream:
    yield b"first"
    raise ValueError("the source broke")


async def _ends(pod: KubernetesDeployment) -> None:
    for script in ("echo one", "exit 3", "kill -9 $$", "seq 1000 | tail -n 1"):
        await pod.run(["sh", "-c", script], check=False)
        await pod.run(["sh", "-c", script], input=b"and the input", check=False)


async def _is_cancelled(pod: KubernetesDeployment) -> None:
    for input in (None, _endless()):
        task = asyncio.create_task(pod.run(["sleep", "1000"], input=input))
        await asyncio.wait({task}, timeout=0.5)
        task.cancel()
        await asyncio.wait({task})


async def _has_a_broken_input(pod: KubernetesDeployment) -> None:
    with pytest.raises(ValueError, match="the source broke"):
        await pod.run(["cat"], input=_broken())


async def _loses_its_reader(pod: KubernetesDeployment) -> None:
    async with aclosing(pod.stream(["cat", "/dev/zero"])) as output:
        await anext(output)


async def _loses_its_line(pod: KubernetesDeployment) -> None:
    for input in (None, _endless()):
        task = asyncio.create_task(pod.run(["sleep", "1000"], input=input))
        await asyncio.wait({task}, timeout=0.5)
        await pod._cluster.close()
        await asyncio.wait({task})


@pytest.mark.parametrize("what", [_ends, _is_cancelled, _has_a_broken_input, _loses_its_reader, _loses_its_line])
@pytest.mark.usefixtures("nothing_left")
async def test_a_command_leaves_no_process(
    pod: KubernetesDeployment, what: Callable[[KubernetesDeployment], Awaitable[None]]
) -> None:
    """Nobody but us waits for what we started: the first process of many a container does not."""
    await what(pod)


@pytest.mark.usefixtures("nothing_left")
async def test_a_backup_and_a_restore_leave_no_process(pod: KubernetesDeployment, mariadb: MariadbServer) -> None:
    await pod.run(["sh", "-c", "mkdir -p /srv/www; echo 1 >/srv/www/index.html"])
    files = FilesComponent(pod, FilesTarget("/srv/www", User(0, 0)))
    archive = await collect(await files.dump())
    await files.restore(from_bytes(archive), Context().context, len(archive))
    if pod._pod == "busybox":
        return
    mariadb.run(f"CREATE DATABASE {pod._pod}; CREATE TABLE {pod._pod}.t AS SELECT 1 AS a")
    mariadb.run(
        f"CREATE USER {pod._pod}@'127.0.0.1' IDENTIFIED BY 'pw'; GRANT ALL ON {pod._pod}.* TO {pod._pod}@'127.0.0.1'"
    )
    owner, admin = Account(pod._pod, "pw"), Account("admin", mariadb.admin_password)
    component = MysqlComponent(pod, MysqlTarget(pod._pod, owner, admin, "127.0.0.1", mariadb.port))
    archive = await collect(await component.dump())
    await component.restore(from_bytes(archive), Context(safety=MemorySafety(component.dump)).context, len(archive))


@pytest.mark.parametrize("size", [0, 1, 255, 70_000, 3 << 20])
def test_a_checksum_is_what_the_program_prints(size: int) -> None:
    content = random.Random(size).randbytes(size)
    for name, kind in CHECKSUMS.items():
        ours = kind()
        for start in range(0, size, 65_521):
            ours.update(content[start : start + 65_521])
        if name == "-":
            assert ours.text == "-"
        else:
            words = subprocess.run([name], input=content, capture_output=True, check=True).stdout.decode().split()
            assert ours.text == ":".join(words[:2])


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_command_that_ends_at_once_ends(shell: str) -> None:
    """Before what runs beside it has begun, as on a machine that has much to do: its signal must not be lost."""
    argv = ["busybox", "sh"] if shell == "busybox" else [shell]

    async def one() -> None:
        process = await asyncio.create_subprocess_exec(
            *argv, str(WRAPPER), "", "0", "1", "0", "", "0", "600", "true", start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"nonce\n\n")
        try:
            async with asyncio.timeout(60):
                assert await process.wait() == 0
        finally:
            process.stdin.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(40)))
