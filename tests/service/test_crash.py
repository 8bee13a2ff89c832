"""kill -9 in the middle: the job goes on, older backups are intact, the live site is old or new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from demo.sample_files import differences, snapshot
from demo.service import ROOT, Service
from tests.service.conftest import SITE_UID
from tests.service.test_main_job import archives, tidied


def big(site: Path) -> None:
    """Enough that a job is still running when it is killed."""
    path = site / "big.bin"
    path.write_bytes(os.urandom(1 << 20) * 100)
    os.chown(path, SITE_UID, SITE_UID if os.geteuid() == 0 else -1)


def hold(service: Service, option: str) -> int:
    """Stop the service's tar as soon as it runs with `option`: the job cannot end by itself any more."""
    number = service.until(lambda: _child(service.pid, option), lambda found: found is not None)
    os.kill(number, signal.SIGSTOP)
    return int(number)


def _child(parent: int, option: str) -> int | None:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            rest = path.read_text().rpartition(") ")[2]
            argv = (path.parent / "cmdline").read_bytes().split(b"\0")
            if int(rest.split()[1]) == parent and argv[0] == b"tar" and option.encode() in argv:
                return int(path.parent.name)
    return None


def kill_with(service: Service, child: int) -> None:
    service.kill()
    os.kill(child, signal.SIGKILL)


def test_a_backup_goes_on_after_kill_9(service: Service, domain: dict[str, Any], site: Path) -> None:
    older = service.backup(domain)
    big(site)
    before = snapshot(site)
    started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
    kill_with(service, hold(service, "--create"))
    service.start()
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert ended["attempt"] == 2
    for backup_id in (started["backup_id"], older["id"]):
        restored = service.wait(
            service.call("POST", f"/api/backups/{backup_id}/restore", 202, json={"clear_existing": True})
        )
        assert restored["status"] == "completed", restored
        if backup_id == started["backup_id"]:
            assert differences(before, snapshot(site)) == []
    stored = sum(path.stat().st_size for path in archives(service) if not path.name.startswith(".put-"))
    listed = [service.call("GET", f"/api/backups/{i}")["file_size"] for i in (older["id"], started["backup_id"])]
    assert stored == sum(listed), "what the killed attempt left is only a temporary file, for the sweep"
    service.stop()
    argv = [sys.executable, "-m", "app.cli", "sweep", "--grace-hours", "0"]
    env = {"PATH": os.environ["PATH"], "LIBERU_DATA": str(service.folder / "data")}
    subprocess.run(argv, env=env, cwd=ROOT, check=True, capture_output=True)
    assert sum(path.stat().st_size for path in archives(service)) == sum(listed), "no leftovers after the sweep"


def test_a_restore_goes_on_after_kill_9(service: Service, domain: dict[str, Any], site: Path) -> None:
    big(site)
    before = snapshot(site)
    backup = service.backup(domain)
    (site / "defaced").write_text("evil")
    damaged = snapshot(site)
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    kill_with(service, hold(service, "--extract"))
    assert not differences(damaged, snapshot(site)) or not differences(before, snapshot(site))
    service.start()
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert differences(before, snapshot(site)) == []
    tidied(service, site)


def test_cancel_stops_a_running_backup_and_leaves_nothing(
    service: Service, domain: dict[str, Any], site: Path
) -> None:
    big(site)
    started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
    hold(service, "--create")
    service.call("POST", f"/api/operations/{started['id']}/cancel")
    ended = service.wait(started)
    assert ended["status"] == "cancelled"
    assert service.call("GET", f"/api/backups/{started['backup_id']}")["status"] == "cancelled"
    assert archives(service) == []
    assert service.backup(domain)["status"] == "completed", "the domain is free again"


def test_a_second_process_on_one_data_folder_refuses(service: Service) -> None:
    second = Service(service.folder)
    try:
        second.start()
    except AssertionError as error:
        assert "Another process uses" in str(error)
    else:
        second.stop()
        raise AssertionError("it started")
