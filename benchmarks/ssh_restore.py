"""A restore over SSH of a site of 20,000 small files, with clear_existing and without, through the API.

BENCH_BASE: another checkout of the project (`git worktree add`), whose service restores by turns with this one.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.pipeline import SITE_UID, ours, removal, settle
from demo import service as services
from demo.service import Service
from demo.ssh_servers import ssh_host

PAIRS = int(os.environ.get("BENCH_PAIRS", "3"))
FILES = int(os.environ.get("BENCH_FILES", "20000"))
BASE = os.environ.get("BENCH_BASE", "")


def make_tree(root: Path) -> None:
    rng = random.Random(5)
    noise = rng.randbytes(1 << 20)
    for number in range(FILES):
        folder = root / f"s{number % 200}"
        folder.mkdir(parents=True, exist_ok=True)
        start = rng.randrange(1 << 19)
        (folder / f"{number}.html").write_bytes(noise[start : start + rng.randrange(200, 8000)])
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)


class Place:
    """One checkout's service with a site of its own."""

    def __init__(self, folder: Path, checkout: Path, deployment: dict[str, Any]) -> None:
        folder.mkdir(mode=0o755)
        self.folder = folder
        self.tree = folder / "site" / "public_html"
        self.service = Service(folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0")
        self._checkout = checkout
        self._deployment = deployment
        self._backup = 0

    def start(self) -> None:
        make_tree(self.tree)
        own, services.ROOT = services.ROOT, self._checkout
        try:
            self.service.start()
        finally:
            services.ROOT = own
        local = {"name": "bench", "configuration": {"path": str(self.folder / "dest")}, "encrypt": True}
        destination = self.service.call("POST", "/api/backup-destinations", 201, json=local)
        body = {
            "domain_name": "bench.example.com", "document_root": str(self.tree), "deployment": self._deployment,
        }  # fmt: skip
        domain = self.service.call("POST", "/api/domains", 201, json=body)
        request = {"domain_id": domain["id"], "type": "files", "destination_id": destination["id"]}
        _, ended = ours(self.service, "/api/backups", request)
        self._backup = ended["backup_id"]

    def restore(self, *, clear: bool) -> float:
        settle(self.folder / "dest")
        seconds, _ = ours(self.service, f"/api/backups/{self._backup}/restore", {"clear_existing": clear})
        removal(self.tree)
        return seconds


@contextmanager
def places(deployment: dict[str, Any]) -> Iterator[dict[str, Place]]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
    folder.chmod(0o755)
    checkouts = {"ours": services.ROOT, **({"base": Path(BASE).absolute()} if BASE else {})}
    found = {name: Place(folder / name, checkout, deployment) for name, checkout in checkouts.items()}
    try:
        for place in found.values():
            place.start()
        yield found
    finally:
        for place in found.values():
            place.service.stop()
        shutil.rmtree(folder)


def main() -> None:
    seconds: dict[str, list[float]] = {}
    with ssh_host() as host, places(host.configuration) as found:
        for pair in range(PAIRS):
            for clear in (True, False):
                for name, place in found.items():
                    taken = place.restore(clear=clear)
                    seconds.setdefault(f"{name}, clear_existing {str(clear).lower()}", []).append(taken)
                    print(f"{pair + 1}: {name}, clear_existing {str(clear).lower()}: {taken:.2f} s", flush=True)
    best = {case: round(min(taken), 2) for case, taken in seconds.items()}
    report: dict[str, Any] = {"name": "ssh-restore", "files": FILES, "best_s": best}
    report["median_s"] = {case: round(statistics.median(taken), 2) for case, taken in seconds.items()}
    if BASE:
        report["ratios"] = {
            case: round(best[f"ours, {case}"] / best[f"base, {case}"], 3)
            for case in ("clear_existing true", "clear_existing false")
        }
    report["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(report))
