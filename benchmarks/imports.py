"""The import of an archive of about 1 GB of each panel against tar and `mariadb <` of the same data, in one run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.foreign_archives import DATABASE, MAIN, PANELS, Panel, login, make_content
from benchmarks.pipeline import PAIRS, SITE_UID, memory, peer, settle
from demo.sample_databases import PASSWORD
from demo.servers import MariadbServer, mariadb_server
from demo.service import Service

CHOSEN = os.environ.get("BENCH_PANELS", "cpanel,virtualmin,plesk").split(",")


def by_hand(panel: Panel, archive: Path, target: Path, mariadb: MariadbServer) -> float:
    mariadb.run("CREATE DATABASE peer")
    command = f'{panel.by_hand} | mariadb {" ".join(login(mariadb))} peer && sync -f "$2"'
    taken = peer(command, str(archive), str(target))
    mariadb.run("DROP DATABASE peer")
    return taken


def ours(service: Service, archive: Path) -> float:
    body = {"source": {"type": "file", "path": archive.name}, "domain_name": MAIN}
    start = time.monotonic()
    ended = service.wait(service.call("POST", "/api/backups/import-external", 202, json=body), 900, pause=0.2)
    taken = time.monotonic() - start
    assert ended["status"] == "completed", ended
    return taken


def measure(name: str, folder: Path, service: Service, mariadb: MariadbServer) -> dict[str, Any]:
    """A service of its own for each panel: its peak is the panel's."""
    panel = PANELS[name]
    archive = folder / "import" / panel.archive
    work = folder / f"work-{name}"
    work.mkdir()
    panel.pack(folder / "content", work, archive)
    shutil.rmtree(work)
    service.start()
    try:
        size = archive.stat().st_size
        print(f"{name}: {size >> 20} MiB; idle {memory(service.pid, 'VmRSS'):.0f} MiB", flush=True)
        pairs: list[tuple[float, float]] = []
        for pair in range(PAIRS):
            target = folder / f"peer-{pair}"
            target.mkdir()
            settle(archive)
            theirs = by_hand(panel, archive, target, mariadb)
            shutil.rmtree(target)
            settle(archive)
            mine = ours(service, archive)
            pairs.append((mine, theirs))
            times = f"ours {mine:6.2f} s  by hand {theirs:6.2f} s  ratio {mine / theirs:.2f}"
            print(f"{name} {pair + 1}: {times}", flush=True)
        peak = round(memory(service.pid, "VmHWM"), 1)
    finally:
        service.stop()
    archive.unlink()
    ratio = round(statistics.median(mine / theirs for mine, theirs in pairs), 3)
    return {"ratio": ratio, "rss_mib": {"peak": peak}, "archive_mib": size >> 20}


def prepare(folder: Path, service: Service, mariadb: MariadbServer) -> None:
    """The content, and the domain that it goes into."""
    make_content(folder / "content", mariadb)
    roots = {name: folder / "site" / name for name in ("public_html", "mail")}
    for root in roots.values():
        root.mkdir(parents=True)
        for path in (root, root.parent):
            if os.geteuid() == 0:
                shutil.chown(path, SITE_UID, SITE_UID)
    mariadb.run(f"CREATE DATABASE {DATABASE}; CREATE USER web@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    mariadb.run(f"GRANT ALL ON {DATABASE}.* TO web@'127.0.0.1'")
    database = {
        "engine": "mariadb", "name": DATABASE, "username": "web", "password": PASSWORD, "host": "127.0.0.1",
        "port": mariadb.port, "admin_username": "admin", "admin_password": mariadb.admin_password,
    }  # fmt: skip
    service.start()
    service.call("POST", "/api/domains", 201, json={
        "domain_name": MAIN, "document_root": str(roots["public_html"]), "mail_path": str(roots["mail"]),
        "databases": [database], "deployment": {"type": "standalone"},
    })  # fmt: skip
    service.stop()


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
    folder.chmod(0o755)
    (folder / "import").mkdir()
    service = Service(folder, LIBERU_IMPORTS__FOLDER=str(folder / "import"))
    try:
        with mariadb_server() as mariadb:
            prepare(folder, service, mariadb)
            report = {name: measure(name, folder, service, mariadb) for name in CHOSEN}
    finally:
        service.stop()
        shutil.rmtree(folder)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps({"name": "import", "panels": report, "machine": machine}))
