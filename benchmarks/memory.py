"""Memory of the service while three components are backed up and restored, with 1 GB and with 4 GB of files."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.pipeline import SITE_UID, memory, ours
from demo.sample_databases import PASSWORD, SampleMariadb, SamplePostgresql
from demo.servers import mariadb_server, postgresql_server
from demo.service import Service

SIZES = (1, 4)
#: Each database's rows: about 300 MB of text, so that the three components run side by side for a while.
_FILL = "CREATE TABLE filler AS SELECT {row} AS x FROM {series}"


def make_files(root: Path, gigabytes: int) -> None:
    rng = random.Random(3)
    noise = rng.randbytes(8 << 20)
    root.mkdir(parents=True)
    for number in range(gigabytes * 1000):
        folder = root / f"d{number % 50}"
        folder.mkdir(exist_ok=True)
        start = rng.randrange(7 << 20)
        (folder / f"{number}.bin").write_bytes(noise[start : start + 500_000] + bytes(500_000))
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)


def main() -> None:
    idle, peaks = 0.0, {}
    with ExitStack() as stack:
        mariadb = stack.enter_context(mariadb_server())
        postgresql = stack.enter_context(postgresql_server())
        rows = [SampleMariadb(mariadb).row, SamplePostgresql(postgresql).row]
        mariadb.run(_FILL.format(row="REPEAT(SHA2(seq, 512), 20)", series="seq_1_to_120000"), "shop")
        row, series = "repeat(md5(g::text), 80)", "generate_series(1, 120000) g"
        postgresql.run(_FILL.format(row=row, series=series), "crm", "crm", PASSWORD)
        for gigabytes in SIZES:
            folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
            folder.chmod(0o755)
            service = Service(folder)
            try:
                make_files(folder / "site" / "public_html", gigabytes)
                service.start()
                idle = memory(service.pid, "VmRSS")
                peaks[gigabytes] = measure(service, folder, rows)
            finally:
                service.stop()
                shutil.rmtree(folder)
            backup, restore = peaks[gigabytes]
            print(
                f"{gigabytes} GB: idle {idle:.0f}, backup's peak {backup:.0f}, with restore {restore:.0f} MiB",
                flush=True,
            )
    small, large = peaks[SIZES[0]], peaks[SIZES[1]]
    report = {
        "name": "memory",
        "ratios": {"peak_4_to_1": round(large[0] / small[0], 3)},
        "rss_mib": {"idle": round(idle, 1), "peak": round(max(large), 1)},
        "backup_peak_mib": {"1": round(small[0], 1), "4": round(large[0], 1)},
        "restore_peak_mib": {"1": round(small[1], 1), "4": round(large[1], 1)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print(json.dumps(report))


def measure(service: Service, folder: Path, databases: list[dict[str, Any]]) -> tuple[float, float]:
    """Peak RSS in MiB after a full backup, and after its restore as well."""
    service.call(
        "POST", "/api/backup-destinations", 201,
        json={"name": "m", "configuration": {"path": str(folder / "dest")}, "encrypt": True, "is_default": True},
    )  # fmt: skip
    body = {
        "domain_name": "memory.example.com", "document_root": str(folder / "site" / "public_html"),
        "databases": databases,
    }  # fmt: skip
    domain = service.call("POST", "/api/domains", 201, json=body)
    _, ended = ours(service, "/api/backups", {"domain_id": domain["id"], "type": "full"})
    backup = memory(service.pid, "VmHWM")
    ours(service, f"/api/backups/{ended['backup_id']}/restore", {"clear_existing": True})
    return backup, memory(service.pid, "VmHWM")
