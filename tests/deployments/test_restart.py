"""What runs a command goes away under it: an honest failure, no hang, and the next try works."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from app.archives.streams import ByteStream
from app.deployments.docker import DockerDeployment, Engine
from app.deployments.kubernetes import Cluster, KubernetesDeployment
from app.deployments.remote_scripts import KILL
from app.errors import StreamCut, TargetMissing
from demo.docker_engine import DockerEngine
from demo.kubernetes_double import ClusterDouble

_ENDLESS = ["sh", "-c", "read -r line </proc/self/stat; echo $line; exec cat /dev/zero"]


async def drained(stream: ByteStream) -> None:
    async with asyncio.timeout(30):
        async for _ in stream:
            pass


@pytest.mark.parametrize("order", ["restart", "stop", "kill", "rm"])
async def test_a_container_goes_away(engine: DockerEngine, containers: dict[str, str], order: str) -> None:
    name = f"away-{order}"
    container = engine.container(name, "docker-gnu:1", "sleep", "100000")
    client = Engine(engine.url)
    deployment = DockerDeployment(client, container, name)
    stream = deployment.stream(_ENDLESS)
    assert await anext(stream)
    options = {"restart": ["-t", "0"], "stop": ["-t", "0"], "rm": ["-f"], "kill": []}[order]
    draining = asyncio.create_task(drained(stream))  # the engine waits for whoever does not read
    await asyncio.to_thread(engine.run, order, *options, container)
    with pytest.raises(StreamCut, match="what runs it was stopped"):
        await draining
    if order == "restart":
        assert (await deployment.run(["echo", "again"])).stdout == b"again\n"
    else:
        with pytest.raises((TargetMissing, StreamCut)):
            await deployment.run(["true"])
    await client.close()
    if order != "rm":
        engine.run("rm", "-f", container)


async def test_only_the_process_that_was_meant_is_killed(engine: DockerEngine, containers: dict[str, str]) -> None:
    client = Engine(engine.url)
    deployment = DockerDeployment(client, containers["docker-gnu"], "docker-gnu")
    # Padded: the last bytes of a stream are held back, they could be the proof of its end.
    script = "read -r line </proc/$$/stat; set -- $line; read -r line </proc/$5/stat"  # the wrapper leads the group
    script += "; printf '%s %0200d' \"$line\" 0; sleep 1; printf '%0200d' 1; sleep 1000"
    stream = deployment.stream(["sh", "-c", script])
    told = (await anext(stream)).split()
    number, group, started = (told[index].decode() for index in (0, 4, 21))
    await deployment.run(["sh", "-c", KILL, "sh", group, number, str(int(started) + 1)])
    assert await anext(stream), "another start time: another process"
    await deployment.run(["sh", "-c", KILL, "sh", group, number, started])
    with pytest.raises(StreamCut):
        await drained(stream)
    await client.close()


async def test_a_pods_container_restarts(cluster: ClusterDouble) -> None:
    reached = Cluster(cluster.kubeconfig())
    deployment = KubernetesDeployment(reached, "hosting", "gnu", "web")
    stream = deployment.stream(_ENDLESS)
    group = int((await anext(stream)).split()[4])
    os.killpg(group, signal.SIGKILL)
    with pytest.raises(StreamCut, match="what runs it was stopped"):
        await drained(stream)
    assert (await deployment.run(["echo", "again"])).stdout == b"again\n"
    await reached.close()
