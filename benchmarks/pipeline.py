"""A files backup and restore through the API against tar, zstd, age, tee and sha256sum, alternating in one run."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from demo.service import Service

PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))
EXT4_RECENT = float(os.environ.get("BENCH_SETTLE", "62"))
SITE_UID = 23456 if os.geteuid() == 0 else os.geteuid()
BACKUP = 'tar -cf - -C "$1" . | zstd -3 -T2 -q | age -r "$2" | tee "$3" | sha256sum >/dev/null && sync "$3"'
RESTORE = 'age -d -i "$1" "$2" | zstd -dq | tar -xf - -C "$3" && sync -f "$3"'


def make_tree(root: Path) -> None:
    """30,000 small files, 2,500 of 50–350 KB, one of 256 MB: about 1 GB, always the same."""
    rng = random.Random(11)
    words = [rng.randbytes(rng.randrange(3, 9)).hex().encode() for _ in range(4000)]
    text = b" ".join(rng.choices(words, k=400_000))
    noise = rng.randbytes(4 << 20)

    def mixed(size: int) -> bytes:
        start = rng.randrange(len(text) - size // 2 - 1) if size < len(text) else 0
        other = rng.randrange(len(noise) - size // 2 - 1)
        return text[start : start + size // 2] + noise[other : other + size - size // 2]

    for number in range(30_000):
        folder = root / f"s{number % 150}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.html").write_bytes(mixed(rng.randrange(200, 16_000)))
    for number in range(2_500):
        (root / f"s{number % 150}" / f"{number}.jpg").write_bytes(mixed(rng.randrange(50_000, 350_000)))
    with (root / "big.bin").open("wb") as file:
        for _ in range(256):
            file.write(mixed(1_000_000))
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)


def peer(command: str, *argv: str) -> float:
    start = time.monotonic()
    subprocess.run(["bash", "-o", "pipefail", "-c", command, "peer", *argv], check=True)
    return time.monotonic() - start


def removal(tree: Path) -> float:
    """Seconds until the tree that was replaced is gone too; the peer replaces none."""
    start = time.monotonic()
    while any(tree.parent.glob(".liberu-restore-*")):
        time.sleep(0.02)
    return time.monotonic() - start


def settle(*archives: Path) -> None:
    """Let no pair pay for what the one before deleted, and start it with the archives in the cache.

    ext4 gives no inode away within a minute of its deletion and passes over each of them, one by one
    (`recently_deleted` in fs/ext4/ialloc.c): after a removal of 33,000 files tar was seen to take 20 s, not 2.5.
    """
    time.sleep(EXT4_RECENT)
    os.sync()
    if os.geteuid() == 0:  # what is cached counts as recent for longer
        Path("/proc/sys/vm/drop_caches").write_text("3")
    for archive in archives:
        for path in [archive] if archive.is_file() else archive.rglob("*"):
            if path.is_file():
                subprocess.run(["cat", "--", str(path)], check=True, stdout=subprocess.DEVNULL)


def memory(pid: int, field: str) -> float:
    """MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


class Load:
    """20 requests a second to GET /api/backups while something runs."""

    def __init__(self, service: Service) -> None:
        self.samples: list[float] = []
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._service.client() as client:
            due = time.monotonic()
            while not self._stop.is_set():
                start = time.monotonic()
                client.get("/api/backups").raise_for_status()
                self.samples.append(time.monotonic() - start)
                due += 0.05
                self._stop.wait(max(0.0, due - time.monotonic()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def ours(service: Service, path: str, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    start = time.monotonic()
    started = service.call("POST", path, 202, json=body)
    ended = service.wait(started, 600, pause=0.2)
    assert ended["status"] == "completed", ended
    return time.monotonic() - start, ended


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
    folder.chmod(0o755)
    service = Service(folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0")  # the removal is measured too
    try:
        tree = folder / "site" / "public_html"
        make_tree(tree)
        service.start()
        report = measure(service, folder, tree)
    finally:
        service.stop()
        shutil.rmtree(folder)
    print(json.dumps(report))


def measure(service: Service, folder: Path, tree: Path) -> dict[str, Any]:
    destination = service.call(
        "POST",
        "/api/backup-destinations",
        201,
        json={"name": "bench", "configuration": {"path": str(folder / "dest")}, "encrypt": True},
    )
    body = {"domain_name": "bench.example.com", "document_root": str(tree)}
    domain = service.call("POST", "/api/domains", 201, json=body)
    identity = folder / "data/keys/age-identity.txt"
    recipient = subprocess.run(
        ["age-keygen", "-y", str(identity)], capture_output=True, text=True, check=True
    ).stdout.strip()
    idle = memory(service.pid, "VmRSS")
    archive = folder / "peer.age"
    request = {"domain_id": domain["id"], "type": "files", "destination_id": destination["id"]}
    backups: list[tuple[float, float]] = []
    restores: list[tuple[float, float]] = []
    removals: list[float] = []
    backup_id = 0
    for pair in range(PAIRS):
        theirs = peer(BACKUP, str(tree), recipient, str(archive))
        mine, ended = ours(service, "/api/backups", request)
        backup_id = ended["backup_id"]
        backups.append((mine, theirs))
        print(f"backup  {pair + 1}: ours {mine:6.2f} s  peer {theirs:6.2f} s  ratio {mine / theirs:.2f}", flush=True)
    size = service.call("GET", f"/api/backups/{backup_id}")["file_size"] / archive.stat().st_size
    for pair in range(PAIRS):
        target = folder / f"peer-{pair}"
        target.mkdir()
        settle(archive, folder / "dest")
        theirs = peer(RESTORE, str(identity), str(archive), str(target))
        mine, _ = ours(service, f"/api/backups/{backup_id}/restore", {"clear_existing": True})
        removals.append(removal(tree))
        restores.append((mine, theirs))
        print(f"restore {pair + 1}: ours {mine:6.2f} s  peer {theirs:6.2f} s  ratio {mine / theirs:.2f}", flush=True)
    peak = memory(service.pid, "VmHWM")
    samples: list[float] = []
    while len(samples) < 200:
        with Load(service) as load:
            ours(service, "/api/backups", request)
        samples += load.samples
    p99 = sorted(samples)[int(len(samples) * 0.99)] * 1000
    print(f"stored size / peer's {size:.3f}; p99 of {len(samples)} requests during backups {p99:.0f} ms")
    return {
        "name": "pipeline",
        "ratios": {
            "backup": round(statistics.median(a / b for a, b in backups), 3),
            "restore": round(statistics.median(a / b for a, b in restores), 3),
            "stored_size": round(size, 4),
        },
        "rss_mib": {"idle": round(idle, 1), "peak": round(peak, 1)},
        "p99_ms": round(p99, 1),
        "samples": len(samples),
        "old_tree_removed_after_s": round(statistics.median(removals), 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
