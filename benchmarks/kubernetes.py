"""A pod's site through the API, by turns with the pod's commands in a pipe with zstd, in the tests' cluster over TLS.

BENCH_PAIRS: how often (3). Of each: seconds, and CPU seconds of the client, of what runs in the pod, and of the
cluster. That is an asyncio program and takes a good part of the CPU that there is: compare the client's CPU first.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pipeline import make_tree, memory, ours
from demo.docker_engine import gnu_root
from demo.kubernetes_double import TOKEN, ClusterDouble, Pod, cluster_double
from demo.service import Service

PAIRS = int(os.environ.get("BENCH_PAIRS", "3"))
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Seconds: on the clock, and of CPU: of the client, of what runs in the pod, of the cluster."""

    clock: float
    client: float
    pod: float
    cluster: float

    def told(self, size: int) -> str:
        used = ", ".join(f"{name} {getattr(self, name):.1f}" for name in ("client", "pod", "cluster"))
        return f"{size / self.clock / 1e6:5.0f} MB/s, {self.clock:6.2f} s; CPU: {used}"


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / _TICKS


def used(who: int) -> float:
    found = resource.getrusage(who)
    return found.ru_utime + found.ru_stime


def cost(work: Callable[[], float], *, child: bool) -> Cost:
    """`work` returns its client's CPU seconds; `child`: which are among those of our children that have ended."""
    children, mine = used(resource.RUSAGE_CHILDREN), used(resource.RUSAGE_SELF)
    begun = time.monotonic()
    client = work()
    clock = time.monotonic() - begun
    pod = used(resource.RUSAGE_CHILDREN) - children
    return Cost(clock, client, pod - client if child else pod, used(resource.RUSAGE_SELF) - mine)


class Peer:
    def __init__(self, cluster: ClusterDouble, archive: Path) -> None:
        self._exec = [
            sys.executable, "-m", "benchmarks.raw_exec", str(cluster.folder / "cert.pem"), str(cluster.port), TOKEN,
            "shop", "web-0", "web",
        ]  # fmt: skip
        self.archive = archive

    def backup(self) -> float:
        return self._run(
            '"$@" out tar -C /site/html --exclude="./.liberu-*" -cf - . | zstd -3 -T2 -q >"$0" && sync "$0"'
        )

    def restore(self) -> float:
        unpack = "mkdir /site/peer && tar -C /site/peer -xf - && sync -f /site/peer; exit $?"
        return self._run(f'zstd -dqc "$0" | "$@" in sh -c "{unpack}"'.replace("$?", "\\$?"))

    def _run(self, script: str) -> float:
        process = subprocess.Popen(["bash", "-o", "pipefail", "-c", script, str(self.archive), *self._exec])
        _, status, taken = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return taken.ru_utime + taken.ru_stime


class Ours:
    def __init__(self, service: Service, request: dict[str, Any]) -> None:
        self._service = service
        self._request = request
        self._backup = 0

    def backup(self) -> float:
        before = cpu(self._service.pid)
        _, ended = ours(self._service, "/api/backups", self._request)
        self._backup = ended["backup_id"]
        return cpu(self._service.pid) - before

    def restore(self) -> float:
        before = cpu(self._service.pid)
        ours(self._service, f"/api/backups/{self._backup}/restore", {"clear_existing": True})
        return cpu(self._service.pid) - before


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
    folder.chmod(0o755)
    try:
        with cluster_double() as cluster:
            root = cluster.root("web")
            gnu_root(root)
            cluster.mount(root)
            site = root / "site/html"
            make_tree(site)
            cluster.pods.append(Pod("shop", "web-0", {"app": "web"}, {"web": root}))
            service = Service(
                folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0",
                LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()),
            )  # fmt: skip
            service.start()
            try:
                print(json.dumps(measure(service, cluster, folder, site)))
            finally:
                service.stop()
    finally:
        shutil.rmtree(folder)


def measure(service: Service, cluster: ClusterDouble, folder: Path, site: Path) -> dict[str, Any]:
    local = {"name": "bench", "configuration": {"path": str(folder / "dest")}}
    destination = service.call("POST", "/api/backup-destinations", 201, json=local)
    deployment = {"type": "kubernetes", "namespace": "shop", "selector": "app=web"}
    body = {"domain_name": "bench.example.com", "document_root": "/site/html", "deployment": deployment}
    domain = service.call("POST", "/api/domains", 201, json=body)
    mine = Ours(service, {"domain_id": domain["id"], "type": "files", "destination_id": destination["id"]})
    theirs = Peer(cluster, folder / "peer.zst")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    idle = memory(service.pid, "VmRSS")
    found: dict[str, list[tuple[Cost, Cost]]] = {"backup": [], "restore": []}
    for pair in range(PAIRS):
        for way, pairs in found.items():
            taken: dict[bool, Cost] = {}
            for peers in (True, False) if pair % 2 else (False, True):  # the second may pay for what the first left
                os.sync()
                taken[peers] = cost(getattr(theirs if peers else mine, way), child=peers)
            own, other = taken[False], taken[True]
            shutil.rmtree(site.parent / "peer", ignore_errors=True)
            pairs.append((own, other))
            for name, told in (("ours", own), ("peer", other)):
                print(f"{way:7} {pair + 1}: {name} {told.told(size)}", flush=True)
    return {
        "name": "kubernetes",
        "size": size,
        "speed_ratios": {way: _speed(pairs) for way, pairs in found.items()},
        "mb_per_cpu_second": {
            way: {
                name: {stage: round(size / 1e6 / statistics.median(getattr(pair[side], stage) for pair in pairs), 1)
                       for stage in ("client", "pod", "cluster")}
                for side, name in enumerate(("ours", "peer"))
            }
            for way, pairs in found.items()
        },
        "rss_mib": {"idle": round(idle, 1), "peak": round(memory(service.pid, "VmHWM"), 1)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }  # fmt: skip


def _speed(pairs: list[tuple[Cost, Cost]]) -> float:
    return round(statistics.median(other.clock / own.clock for own, other in pairs), 3)
