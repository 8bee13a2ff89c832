"""2,500 domains with tiny sites, backed up by three processes on one PostgreSQL: rate, latency, load, growth.

The server runs without fsync, as in the tests: figures are of this service's statements, not of a disk.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.pipeline import SITE_UID, memory
from demo.servers import PostgresqlServer, postgresql_server
from demo.service import Service

SIZES = [int(text) for text in os.environ.get("BENCH_DOMAINS", "250,2500").split(",")]
PROCESSES = 3
IDLE_SECONDS = 30
ALONE = 100


def processes(folder: Path, server: PostgresqlServer) -> list[Service]:
    where = f"admin:{server.admin_password}@127.0.0.1:{server.port}"
    made: list[Service] = []
    for number in range(PROCESSES):
        place = folder / f"process-{number}"
        place.mkdir()
        service = Service(
            place,
            LIBERU_DATABASE__URL=f"postgresql+asyncpg://{where}/state",
            LIBERU_DATABASE__ENGINE_URL=f"postgresql+psycopg://{where}/engine",
            LIBERU_KEYS=str(folder / "keys"),
            LIBERU_SITES__ROOTS=f'["{folder}"]',
            LIBERU_SCHEDULES__TICK_SECONDS="1",
        )
        service.start()
        service.token = service.token or made[0].token
        made.append(service)
    return made


def transactions(server: PostgresqlServer) -> int:
    query = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname IN ('state', 'engine')"
    return int(server.run(query))


def seconds(operation: dict[str, Any], begin: str = "created_at", end: str = "started_at") -> float:
    return (datetime.fromisoformat(operation[end]) - datetime.fromisoformat(operation[begin])).total_seconds()


def percentiles(values: list[float]) -> dict[str, int]:
    """In milliseconds."""
    ordered = sorted(values)
    return {
        "p50_ms": round(1000 * statistics.median(ordered)),
        "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]),
    }


def make_domains(service: Service, folder: Path, user_id: int, count: int) -> list[dict[str, Any]]:
    def one(number: int) -> dict[str, Any]:
        name = f"site{number}.user{user_id}.example.com"
        root = folder / "sites" / name
        root.mkdir(parents=True)
        (root / "index.html").write_text(f"<p>{name}</p>" * 20)
        if os.geteuid() == 0:
            for path in (root, root / "index.html"):
                os.chown(path, SITE_UID, SITE_UID)
        body = {"domain_name": name, "user_id": user_id, "document_root": str(root)}
        made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
        return made

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(count)))


def idle(server: PostgresqlServer, members: list[Service]) -> dict[str, float]:
    """Transactions and processor time of a process that has nothing to do, per second."""
    before, cpu = transactions(server), [used(member) for member in members]
    time.sleep(IDLE_SECONDS)
    spent = sum(used(member) - start for member, start in zip(members, cpu, strict=True))
    return {
        "transactions_per_second": round((transactions(server) - before) / IDLE_SECONDS / len(members), 1),
        "cpu_percent": round(100 * spent / IDLE_SECONDS / len(members), 1),
    }


def used(member: Service) -> float:
    fields = Path(f"/proc/{member.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alone(members: list[Service], domain: dict[str, Any]) -> list[dict[str, Any]]:
    """One after the other, so that nothing waits for anything."""
    ended = []
    for number in range(ALONE):
        member = members[number % PROCESSES]
        started = member.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
        ended.append(member.wait(started, pause=0.02))
    return ended


def scheduled(server: PostgresqlServer, members: list[Service], user_id: int, count: int) -> dict[str, Any]:
    """All domains of an owner, by one run of a schedule; meanwhile somebody waits for restores."""
    body = {"name": "all", "type": "files", "user_id": user_id, "frequency": "monthly"}
    schedule = members[0].call("POST", "/api/backup-schedules", 201, json=body)
    path = f"/api/backup-schedules/{schedule['id']}"
    [good] = members[0].call("GET", "/api/backups", params={"status": "completed", "per_page": 1})["data"][:1]
    before, begun = transactions(server), time.monotonic()
    members[0].call("POST", f"{path}/run", 202)
    restores = []
    while True:
        [run] = members[1].call("GET", f"{path}/runs")["data"]
        if run["outcome"] is not None:
            break
        body = {"clear_existing": False}
        restored = members[2].call("POST", f"/api/backups/{good['id']}/restore", 202, json=body)
        restores.append(members[2].wait(restored, 600, pause=0.1))
        time.sleep(0.5)
    taken = time.monotonic() - begun
    assert run["outcome"] == "completed", run
    assert run["operations"] == {"completed": count}, run
    assert all(found["status"] == "completed" for found in restores)
    return {
        "domains": count,
        "seconds": round(taken, 1),
        "jobs_per_second": round(count / taken, 1),
        "transactions_per_job": round((transactions(server) - before) / (count + len(restores)), 1),
        "restores_meanwhile": {"count": len(restores), **percentiles([seconds(found) for found in restores])},
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-"))
    folder.chmod(0o755)
    members: list[Service] = []
    try:
        with postgresql_server() as server:
            server.run("CREATE DATABASE state")
            server.run("CREATE DATABASE engine")
            members = processes(folder, server)
            [first] = make_domains(members[0], folder, 1, 1)
            result: dict[str, Any] = {"machine": platform.platform(), "cores": os.cpu_count(), "processes": PROCESSES}
            one_by_one = alone(members, first)
            result["alone"] = {
                "enqueue_to_start": percentiles([seconds(found) for found in one_by_one]),
                "start_to_end": percentiles([seconds(found, "started_at", "finished_at") for found in one_by_one]),
            }
            print("alone", result["alone"], flush=True)
            result["idle_per_process"] = idle(server, members)
            print("idle", result["idle_per_process"], flush=True)
            result["runs"] = []
            for number, size in enumerate(SIZES):
                make_domains(members[0], folder, 10 + number, size)
                result["runs"].append(scheduled(server, members, 10 + number, size))
                print(result["runs"][-1], flush=True)
            result["rss_mib"] = [round(memory(member.pid, "VmHWM")) for member in members]
            small, large = result["runs"][0], result["runs"][-1]
            result["growth"] = round((large["seconds"] / small["seconds"]) / (large["domains"] / small["domains"]), 3)
            print(f"growth: {result['growth']} (1: linear)", flush=True)
            print(json.dumps(result))
    finally:
        for member in members:
            member.stop()
        shutil.rmtree(folder)
