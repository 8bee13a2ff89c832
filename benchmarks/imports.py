"""The import of a cPanel archive of about 1 GB against `tar -xzf` and `mariadb <` of the same data, in one run."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pipeline import PAIRS, SITE_UID, make_tree, memory, settle
from demo.sample_databases import PASSWORD
from demo.servers import MariadbServer, mariadb_server
from demo.service import Service

MAIN, USER = "shop.example.com", "shopuser"
DATABASE = f"{USER}_shop"
MESSAGES = 5000


def make_account(folder: Path, mariadb: MariadbServer) -> Path:
    """The tree of the other benchmark, 5,000 messages, and a dump of 200,000 rows; packed with tar -czf."""
    top = folder / f"cpmove-{USER}"
    home = top / "homedir"
    make_tree(home / "public_html")
    inbox = home / f"mail/{MAIN}/info"
    for name in ("cur", "new", "tmp"):
        (inbox / name).mkdir(parents=True)
    rng = random.Random(5)
    for number in range(MESSAGES):
        (inbox / f"cur/{number}.host:2,S").write_bytes(rng.randbytes(rng.randrange(1000, 20_000)).hex().encode())
    for name, text in {
        f"cp/{USER}": f"DNS={MAIN}\n", "userdata/main": f"main_domain: {MAIN}\n", "version": "pkgacct version: 10\n",
        f"userdata/{MAIN}": f"documentroot: /home/{USER}/public_html\n",
    }.items():  # fmt: skip
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    mariadb.run("CREATE DATABASE origin")
    mariadb.run(
        "CREATE TABLE orders (id int PRIMARY KEY, note varchar(200), KEY (note));"
        "INSERT INTO orders SELECT seq, SHA2(seq, 512) FROM mysql.seq_1_to_200000",
        "origin",
    )
    (top / "mysql").mkdir()
    with (top / f"mysql/{DATABASE}.sql").open("wb") as dump:
        subprocess.run(["mariadb-dump", *login(mariadb), "origin"], stdout=dump, check=True)
    mariadb.run("DROP DATABASE origin")
    archive = folder / "import" / f"cpmove-{USER}.tar.gz"
    archive.parent.mkdir()
    subprocess.run(["tar", "-czf", str(archive), "-C", str(folder), top.name], check=True)
    shutil.rmtree(top)
    return archive


def login(mariadb: MariadbServer) -> list[str]:
    return ["-h127.0.0.1", f"-P{mariadb.port}", "-uadmin", f"-p{mariadb.admin_password}"]


def by_hand(archive: Path, target: Path, mariadb: MariadbServer) -> float:
    mariadb.run("CREATE DATABASE peer")
    start = time.monotonic()
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(target)], check=True)
    with (target / f"cpmove-{USER}/mysql/{DATABASE}.sql").open("rb") as dump:
        subprocess.run(["mariadb", *login(mariadb), "peer"], stdin=dump, check=True)
    subprocess.run(["sync", "-f", str(target)], check=True)
    taken = time.monotonic() - start
    mariadb.run("DROP DATABASE peer")
    return taken


def ours(service: Service, archive: Path) -> float:
    body = {"source": {"type": "file", "path": archive.name}, "domain_name": MAIN}
    start = time.monotonic()
    ended = service.wait(service.call("POST", "/api/backups/import-external", 202, json=body), 900, pause=0.2)
    taken = time.monotonic() - start
    assert ended["status"] == "completed", ended
    return taken


def measure(folder: Path, service: Service, mariadb: MariadbServer) -> dict[str, Any]:
    archive = make_account(folder, mariadb)
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
    size = archive.stat().st_size
    print(f"archive: {size >> 20} MiB; idle {memory(service.pid, 'VmRSS'):.0f} MiB", flush=True)
    pairs: list[tuple[float, float]] = []
    for pair in range(PAIRS):
        target = folder / f"peer-{pair}"
        target.mkdir()
        settle(archive)
        theirs = by_hand(archive, target, mariadb)
        shutil.rmtree(target)
        settle(archive)
        mine = ours(service, archive)
        pairs.append((mine, theirs))
        print(f"import {pair + 1}: ours {mine:6.2f} s  peer {theirs:6.2f} s  ratio {mine / theirs:.2f}", flush=True)
    return {
        "name": "import",
        "ratio": round(statistics.median(mine / theirs for mine, theirs in pairs), 3),
        "rss_mib": {"peak": round(memory(service.pid, "VmHWM"), 1)},
        "archive_mib": size >> 20,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
    folder.chmod(0o755)
    service = Service(folder, LIBERU_IMPORTS__FOLDER=str(folder / "import"))
    try:
        with mariadb_server() as mariadb:
            try:
                report = measure(folder, service, mariadb)
            finally:
                service.stop()
    finally:
        shutil.rmtree(folder)
    print(json.dumps(report))
