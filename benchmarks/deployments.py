"""1 GB of `tar c` through Deployment.stream, drained, against `docker exec … | cat` and `ssh … | cat`, by turns."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.docker_engine import docker_engine
from demo.docker_site import images
from demo.service import ROOT
from demo.ssh_servers import ssh_host

PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
SIZE = int(os.environ.get("BENCH_MB", "1000")) * 1_000_000
_FILE = 10_000_000
_TAR = ["tar", "--create", "--file=-", "."]


@dataclass(frozen=True, slots=True)
class Place:
    """`peer`: argv that writes the site's tar to stdout; `job`: the same for benchmarks.streaming."""

    peer: list[str]
    job: dict[str, Any]


@contextmanager
def docker_place(site: Path) -> Iterator[Place]:
    with docker_engine() as engine:
        images(engine)
        engine.container("bench", "gnu:1", "sleep", "100000", options=["-v", f"{site}:/var/www"])
        peer = ["/usr/bin/docker", "-H", engine.url, "exec", "-w", "/var/www", "bench", *_TAR]
        yield Place(peer, {"kind": "docker", "url": engine.url, "container": "bench", "cwd": "/var/www"})


@contextmanager
def ssh_place(site: Path) -> Iterator[Place]:
    with ssh_host() as host:
        setting = host.configuration
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        peer = [
            "ssh", "-F", "none", "-p", str(setting["port"]), "-i", str(host.folder / "id"),
            *(word for option in options for word in ("-o", option)),
            f"{setting['username']}@{setting['host']}", f"cd {site} && {' '.join(_TAR)}",
        ]  # fmt: skip
        yield Place(peer, {"kind": "ssh", "configuration": setting, "cwd": str(site)})


def peer(argv: list[str]) -> float:
    started = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as command:
        with open(os.devnull, "wb") as sink:
            subprocess.run(["cat"], stdin=command.stdout, stdout=sink, check=True)
        assert command.wait() == 0
    return time.monotonic() - started


def ours(job: dict[str, Any]) -> dict[str, float]:
    argv = [sys.executable, "-m", "benchmarks.streaming"]
    done = subprocess.run(
        argv, cwd=ROOT, input=json.dumps({**job, "argv": _TAR}), capture_output=True, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    assert result["size"] > SIZE, result
    return result


def main() -> None:
    site = Path(tempfile.mkdtemp(prefix="liberu-bench-"))
    ratios: dict[str, float] = {}
    speeds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    try:
        for number in range(SIZE // _FILE):
            (site / f"{number}.bin").write_bytes(os.urandom(_FILE))
        for name, make in (("docker", docker_place), ("ssh", ssh_place)):
            with make(site) as place:
                pairs, grown = [], []
                for number in range(PAIRS):
                    theirs, mine = peer(place.peer), ours(place.job)
                    pairs.append((theirs / mine["seconds"], SIZE / mine["seconds"] / 1e6))
                    grown.append(mine["peak"] - mine["idle"])
                    print(
                        f"{name} {number + 1}: ours {pairs[-1][1]:6.0f} MB/s  peer {SIZE / theirs / 1e6:6.0f} MB/s  "
                        f"ratio {pairs[-1][0]:.2f}  peak +{grown[-1]:.0f} MiB",
                        flush=True,
                    )
                ratios[name] = round(statistics.median(ratio for ratio, _ in pairs), 3)
                speeds[name] = round(statistics.median(speed for _, speed in pairs))
                peaks[name] = round(max(grown), 1)
    finally:
        shutil.rmtree(site)
    print(json.dumps({
        "name": "deployments", "ratios": ratios, "mb_per_s": speeds, "rss_growth_mib": peaks,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }))  # fmt: skip
