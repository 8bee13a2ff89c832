"""900 MB put and got through each driver against rclone, to the same server, alternating in one run; then a put over
a line with a round trip of 100 ms."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.delaylink import inside, long_line
from demo.ceph import s3_server
from demo.ftp_servers import proftpd_server
from demo.service import ROOT
from demo.storage_servers import StorageServer, sftp_server

PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
SIZE = int(os.environ.get("BENCH_MB", "900")) * 1_000_000
ROUND_TRIP_MS = 100
LONG_LINE = ("sftp", "s3")
SERVERS: dict[str, Callable[[], AbstractContextManager[StorageServer]]] = {
    "sftp": sftp_server,
    "ftps": lambda: proftpd_server("explicit"),
    "ftp": proftpd_server,
    "s3": lambda: s3_server(store="bluestore"),
}


def installed(program: str, package: str) -> str:
    """Where `program` is, from Debian's package when it was not there; without it there is nothing to measure."""
    if shutil.which(program) is None and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], check=True)
    found = shutil.which(program)
    if found is None:
        sys.exit(f"{program} is needed: apt-get install {package}")
    return found


def obscured(program: str, secret: str) -> str:
    done = subprocess.run([program, "obscure", "-"], input=secret, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def peer_settings(program: str, server: StorageServer, configuration: dict[str, Any], folder: Path) -> dict[str, str]:
    """rclone's configuration by environment, as its manual says."""
    if server.type == "s3":
        found = {
            "TYPE": "s3", "PROVIDER": "Ceph", "ACCESS_KEY_ID": configuration["key"],
            "SECRET_ACCESS_KEY": configuration["secret"], "ENDPOINT": configuration["endpoint"],
            "FORCE_PATH_STYLE": "true",
        }  # fmt: skip
    elif server.type == "sftp":
        found = {
            "TYPE": "sftp", "HOST": configuration["host"], "PORT": str(configuration["port"]),
            "USER": configuration["username"], "PASS": obscured(program, configuration["password"]),
            "SHELL_TYPE": "none", "DISABLE_HASHCHECK": "true",
        }  # fmt: skip
    else:
        found = {
            "TYPE": "ftp", "HOST": configuration["host"], "PORT": str(configuration["port"]),
            "USER": configuration["username"], "PASS": obscured(program, configuration["password"]),
            "EXPLICIT_TLS": "true" if configuration["ssl"] == "explicit" else "false", "NO_CHECK_CERTIFICATE": "true",
        }  # fmt: skip
    config = folder / "rclone.conf"
    config.touch()
    return {"RCLONE_CONFIG": str(config), **{f"RCLONE_CONFIG_PEER_{name}": value for name, value in found.items()}}


def peer(program: str, env: dict[str, str], operation: str, path: Path, where: str) -> float:
    environment = {"PATH": os.environ["PATH"], "HOME": str(path.parent), **env}
    started = time.monotonic()
    with path.open("rb") as source, open(os.devnull, "wb") as sink:
        subprocess.run(
            [program, {"put": "rcat", "get": "cat"}[operation], f"peer:{where}"], env=environment, check=True,
            stdin=source if operation == "put" else subprocess.DEVNULL, stdout=sink,
        )  # fmt: skip
    return time.monotonic() - started


def ours(
    kind: str, configuration: dict[str, Any], operation: str, path: Path, namespace: str | None = None
) -> dict[str, float]:
    job = {
        "type": kind, "configuration": configuration, "operation": operation, "path": str(path), "key": "a/ours",
    }  # fmt: skip
    argv = [sys.executable, "-m", "benchmarks.transfer"]
    done = subprocess.run(
        inside(namespace, argv) if namespace else argv, cwd=ROOT, input=json.dumps(job), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout)
    assert result["size"] == SIZE, result
    return result


def over_a_long_line(path: Path) -> dict[str, float]:
    """MB/s of one put, for each driver that has something to gain there."""
    installed("ip", "iproute2")
    found: dict[str, float] = {}
    for name in LONG_LINE:
        with long_line(ROUND_TRIP_MS) as (client, far):
            argv = inside(far, [sys.executable, "-m", "benchmarks.remote_server", name])
            with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdin is not None
                assert server.stdout is not None
                made = json.loads(server.stdout.readline())
                try:
                    result = ours(made["type"], made["configuration"], "put", path, client)
                finally:
                    server.stdin.close()
        found[f"{name}_put"] = round(SIZE / result["seconds"] / 1e6)
        print(
            f"{name} put at {ROUND_TRIP_MS} ms: {found[f'{name}_put']:6.0f} MB/s  "
            f"peak +{result['peak'] - result['idle']:.0f} MiB",
            flush=True,
        )
    return found


def where_of(server: StorageServer, configuration: dict[str, Any]) -> str:
    if server.type == "s3":
        return f"{configuration['bucket']}/{configuration['prefix']}/a/peer"
    return f"{configuration['root']}/a/peer"


def main() -> None:
    program = installed("rclone", "rclone")
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
    ratios: dict[str, float] = {}
    speeds: dict[str, float] = {}
    idle = peak = 0.0
    try:
        path = folder / "source"
        noise = random.Random(5).randbytes(10_000_000)
        with path.open("wb") as file:
            for start in range(SIZE // len(noise)):
                file.write(noise[start:] + noise[:start])
        for name, make in SERVERS.items():
            with make() as server:
                configuration = server.fresh()
                env = peer_settings(program, server, configuration, folder)
                for operation in ("put", "get"):
                    pairs = []
                    for number in range(PAIRS):
                        theirs = peer(program, env, operation, path, where_of(server, configuration))
                        mine = ours(server.type, configuration, operation, path)
                        idle, peak = max(idle, mine["idle"]), max(peak, mine["peak"] - mine["idle"])
                        pairs.append((theirs / mine["seconds"], SIZE / mine["seconds"] / 1e6))
                        print(
                            f"{name} {operation} {number + 1}: ours {pairs[-1][1]:6.0f} MB/s  "
                            f"rclone {SIZE / theirs / 1e6:6.0f} MB/s  ratio {pairs[-1][0]:.2f}  "
                            f"peak +{mine['peak'] - mine['idle']:.0f} MiB",
                            flush=True,
                        )
                    ratios[f"{name}_{operation}"] = round(statistics.median(ratio for ratio, _ in pairs), 3)
                    speeds[f"{name}_{operation}"] = round(statistics.median(speed for _, speed in pairs))
        far = over_a_long_line(path)
    finally:
        shutil.rmtree(folder)
    print(json.dumps({
        "name": "destinations", "ratios": ratios, "mb_per_s": speeds, f"mb_per_s_at_{ROUND_TRIP_MS}_ms": far,
        "rss_mib": {"idle": round(idle, 1), "peak": round(idle + peak, 1)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }))  # fmt: skip
