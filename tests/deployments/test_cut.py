"""A stream that ends too early, wherever it does, is a failure and makes no backup."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.archives.compression import Compressor
from app.archives.store import BackupStore
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import Deployment, User
from app.deployments.docker import DockerDeployment, Engine
from app.deployments.kubernetes import Cluster, KubernetesDeployment
from app.deployments.process import SEARCH_PATH
from app.deployments.remote import Channel, RemoteDeployment
from app.deployments.ssh import SshDeployment, server_of
from app.deployments.standalone import StandaloneDeployment
from app.errors import ComponentError, DeploymentError, StreamCut
from app.security.signing import Signer
from app.storage.memory import MemoryDriver
from demo.docker_engine import DockerEngine
from demo.kubernetes_double import ClusterDouble
from demo.ports import free_port
from demo.ssh_servers import SshHost
from tests import sampling
from tests.deployments.conftest import _forget
from tests.deployments.cutting_proxy import Line, cutting_proxy

OFFSETS = 200
Opener = Callable[[], Deployment]


@asynccontextmanager
async def over_a_line(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncGenerator[tuple[Line, Opener]]:
    if kind == "ssh":
        host: SshHost = request.getfixturevalue("ssh")
        port = free_port()
        server = server_of({**host.configuration, "port": port})
        async with cutting_proxy(str(host.configuration["port"]), str(port)) as line:
            yield line, lambda: SshDeployment(server, _forget)
        return
    if kind == "kubernetes-gnu":
        double: ClusterDouble = request.getfixturevalue("cluster")
        port = free_port()
        reached = Cluster(double.kubeconfig(port))
        async with cutting_proxy(str(double.port), str(port)) as line:
            yield line, lambda: KubernetesDeployment(reached, "hosting", "gnu", "web")
            await reached.close()
        return
    started: DockerEngine = request.getfixturevalue("engine")
    container = request.getfixturevalue("containers")[kind]
    path = str(folder / "proxy.sock")
    engine = Engine(f"unix://{path}")
    async with cutting_proxy(started.url.removeprefix("unix://"), path) as line:
        yield line, lambda: DockerDeployment(engine, container, kind)
        await engine.close()


@pytest.mark.sweep
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ssh", "docker-gnu", "kubernetes-gnu"])
async def test_a_cut_stream_makes_no_backup(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, compressor: Compressor, signer: Signer
) -> None:
    disk = MemoryDriver()
    store = BackupStore(disk, compressor, signer)
    async with over_a_line(kind, request, tmp_path) as (line, opened):
        known: dict[Any, Any] = {}

        async def dumped() -> int:
            deployment = opened()
            deployment.tools.update(known)
            try:
                await deployment.prepare()
                component = FilesComponent(deployment, FilesTarget(site, User(0, 0)))
                dump = await component.dump()
                known.update(deployment.tools)
                line.limit = limit
                archive = await store.put_component("a/01-files.tar.zst", dump.stream, [], dump.verify)
                return archive.plain_size
            finally:
                line.limit = None
                await deployment.close()

        site = "/tmp/cut" if kind != "ssh" else str(tmp_path / "cut")
        maker = opened()
        script = 'mkdir -p "$1" && cd "$1" && for i in 1 2 3 4 5 6; do head -c 60000 /dev/urandom >file$i; done'
        await maker.run(["sh", "-c", script, "sh", site])
        await maker.close()
        limit: int | None = None
        line.most = 0
        assert await dumped() > 360_000
        whole = line.most
        await disk.delete("a/01-files.tar.zst")
        # How output is cut into frames differs a little from run to run, and SSH says good-bye after the last byte.
        first, last = 1 if kind == "docker-gnu" else whole - 350_000, whole - 3000
        rng = sampling.rng(f"cut {kind}")
        for _ in range(OFFSETS if sampling.whole() else 25):
            limit = rng.randint(first, last)
            with pytest.raises(DeploymentError):
                await dumped()
            assert [info async for info in disk.list()] == []
        limit = None
        assert await dumped() > 360_000, "the line itself is sound"


async def test_a_command_that_dies_makes_no_backup(tmp_path: Path, compressor: Compressor, signer: Signer) -> None:
    """On this machine there is no line to cut: tar itself ends early, killed or as if all were well."""
    disk = MemoryDriver()
    store = BackupStore(disk, compressor, signer)
    site = tmp_path / "site"
    site.mkdir()
    for number in range(6):
        (site / f"file{number}").write_bytes(os.urandom(60_000))
    rng = random.Random(os.environ.get("SEED", "cut"))
    fake = tmp_path / "tar"
    deployment = StandaloneDeployment(search_path=f"{tmp_path}:{SEARCH_PATH}")
    for number in range(OFFSETS):
        end = "kill -9 $$" if number % 2 else "exit 0"
        at = rng.randint(0, 360_000)
        cut = f'if [ "$1" = --version ]; then exec /bin/tar "$@"; fi; /bin/tar "$@" | head -c {at}; {end}'
        fake.write_text(f"#!/bin/sh\n{cut}\n")
        fake.chmod(0o755)
        dump = await FilesComponent(deployment, FilesTarget(str(site), User(0, 0))).dump()
        with pytest.raises((DeploymentError, ComponentError)) as raised:
            await store.put_component("a/01-files.tar.zst", dump.stream, [], dump.verify)
        assert number % 2 == 0 or "memory ran out" in raised.value.message
        assert [info async for info in disk.list()] == []


class _Recorded(Channel):
    """A channel that has its output already."""

    def __init__(self, chunks: list[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self.complain(b"liberu-group 0 0 0\n")

    async def answer(self) -> None:
        return None

    async def send(self, data: bytes) -> None:
        return None

    async def send_end(self) -> None:
        return None

    async def receive(self) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    async def close(self) -> None:
        return None


class _Replay(RemoteDeployment):
    kind = "replay"
    privileged = False

    def __init__(self, chunks: list[bytes], tool: str = "-") -> None:
        super().__init__()
        self.framed = tool != "-"
        self._chunks = [f"{tool}\n".encode(), *chunks] if self.framed else chunks

    async def open(self, argv: Sequence[str], cwd: str | None = None, user: User | None = None) -> Channel:
        return _Recorded(self._chunks)


@pytest.mark.parametrize("content", [b"", b"x", b"y" * 100])
async def test_the_end_is_proven_to_the_last_byte(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = "0123456789abcdef" * 2
    monkeypatch.setattr("app.deployments.remote.secrets.token_hex", lambda size: nonce)
    whole = content + f"liberu-end {nonce} 007 {'-':<66}\n".encode()

    def outcome(data: bytes, size: int) -> Deployment:
        return _Replay([data[start : start + size] for start in range(0, len(data), size)])

    for size in (1, 7, 1000):
        result = await outcome(whole, size).run(["true"], check=False)
        assert (result.stdout, result.status) == (content, 7)
        for cut in range(1, 115):
            with pytest.raises(StreamCut):
                await outcome(whole[:-cut], size).run(["true"], check=False)
        for forged in (whole + b"x", whole.replace(b"0123", b"1123"), content):
            with pytest.raises(StreamCut):
                await outcome(forged, size).run(["true"], check=False)


@pytest.mark.parametrize("tool", ["cksum", "sha256sum"])
async def test_what_changed_on_the_way_is_found_out(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = "0123456789abcdef" * 2
    monkeypatch.setattr("app.deployments.remote.secrets.token_hex", lambda size: nonce)
    content = random.Random(1).randbytes(1000)
    printed = subprocess.run([tool], input=content, capture_output=True, check=True).stdout.decode().split()
    end = f"liberu-end {nonce} 000 {':'.join(printed[:2]):<66}\n".encode()
    assert (await _Replay([content, end], tool).run(["true"])).stdout == content
    for arrived in (content[:500] + content[501:], content[:-1], b"x" + content[1:], b"", content[1:2] + content[1:]):
        with pytest.raises(StreamCut, match="checksum"):
            await _Replay([arrived + end], tool).run(["true"])
