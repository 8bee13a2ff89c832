"""A restore that is killed in the middle of its swap, and what is in its way when the service starts again."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from app.deployments import local_swap
from app.deployments.swap import pack, unpack
from app.deployments.tree import STAGING_PREFIX, SwapPlan
from demo.sample_files import differences, make_site, snapshot
from demo.service import Service
from tests.service.conftest import SITE_UID
from tests.service.test_crash import big, hold, kill_with

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def restless(folder: Path) -> Iterator[Service]:
    """A service that soon sees to what restores have left."""
    made = Service(folder, LIBERU_RESTORES__TIDY_SECONDS="0.3")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def mounted(folder: Path) -> Iterator[Path]:
    """A site whose document root is a mount point: entries are swapped one by one."""
    root = folder / "site" / "public_html"
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(root)], check=True)
    make_site(root, files=60, large=1 << 20, uid=SITE_UID)
    yield root
    subprocess.run(["umount", "-l", str(root)], check=True)


def register(service: Service, site: Path) -> dict[str, Any]:
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made


def half_swapped(service: Service, domain: dict[str, Any], site: Path) -> tuple[dict[str, Any], Any, Any]:
    """A restore that was killed when half of the entries had been moved; what was live before, what will be after."""
    big(site)
    backup = service.backup(domain)
    shutil.rmtree(site / "d01")
    (site / "defaced").write_text("evil")
    old = snapshot(site)
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    kill_with(service, hold(service, "--extract"))
    with sqlite3.connect(service.folder / "data/liberu.db") as state:
        (text,) = state.execute("SELECT journal FROM operations WHERE id = ?", (started["id"],)).fetchone()
        journal = json.loads(text)
        plan = SwapPlan(**journal["1"]["plan"])
        assert plan.state == "planned"
        new = snapshot(Path(plan.staging_path) / "new")
        local_swap.measure(plan)
        plan.state = "begun"
        names = unpack(plan.names)
        whole, plan.names = plan.names, pack(names[: len(names) // 2])
        local_swap.forward(plan)
        plan.names = whole
        journal["1"] |= {"plan": asdict(plan), "unsettled": True}
        state.execute("UPDATE operations SET journal = ? WHERE id = ?", (json.dumps(journal), started["id"]))
    return started, old, new


def same(before: Any, site: Path) -> list[str]:
    """Differences, but for the root folder's own entry and staging."""
    after = {path: one for path, one in snapshot(site).items() if not path.startswith(STAGING_PREFIX.encode())}
    before.pop(b".", None), after.pop(b".", None)
    return differences(before, after)


def away(service: Service) -> Path:
    destination = service.folder / "data/backups"
    return destination.rename(service.folder / "elsewhere")


def given_up(service: Service, site: Path) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """A domain whose half-swapped restore has used up its attempts, its destination away; what was live before."""
    domain = register(service, site)
    started, old, _ = half_swapped(service, domain, site)
    away(service)
    with sqlite3.connect(service.folder / "data/liberu.db") as state:
        state.execute("UPDATE operations SET attempt = 5 WHERE id = ?", (started["id"],))
    return domain, started, old


def leftovers(site: Path) -> list[str]:
    return [path.name for path in site.iterdir() if path.name.startswith(STAGING_PREFIX)]


@needs_root
def test_it_is_finished_though_the_destination_is_away(restless: Service, mounted: Path) -> None:
    started, _, new = half_swapped(restless, register(restless, mounted), mounted)
    away(restless)
    restless.start()
    ended = restless.wait(started)
    assert ended["status"] == "completed", ended
    assert same(new, mounted) == []
    assert "is kept in" in ended["result"]["components"][0]["message"]
    (staging,) = leftovers(mounted)
    assert (mounted / staging / "old" / "defaced").read_text() == "evil", "kept for a day, as after any restore"


@needs_root
def test_it_is_undone_when_it_is_cancelled(restless: Service, mounted: Path) -> None:
    _, started, old = given_up(restless, mounted)
    restless.start()
    ended = restless.wait(started)
    assert ended["status"] == "failed", ended
    assert "as it was before the restore" in ended["error_message"]
    assert same(old, mounted) == []
    restless.until(lambda: leftovers(mounted), lambda found: not found)


@needs_root
def test_what_can_neither_be_finished_nor_undone_is_kept_and_named_and_tried_again(
    restless: Service, mounted: Path
) -> None:
    domain, started, old = given_up(restless, mounted)
    (staging,) = leftovers(mounted)
    old_files = [path for path in (mounted / staging / "old").iterdir() if path.is_file() and not path.is_symlink()]
    waiting = [path for path in mounted.iterdir() if path.is_file() and not path.is_symlink()]
    fixed = [old_files[0], next(path for path in waiting if path.name == "large.bin")]
    for path in fixed:  # it can neither come back nor go out
        subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        restless.start()
        ended = restless.wait(started)
        assert (ended["status"], ended["error_code"]) == ("failed", "swap_unfinished"), ended
        assert f"{mounted}/{staging}/old" in ended["error_message"]
        assert list((mounted / staging / "old").iterdir()), "nothing was removed"
        [left] = restless.call("GET", f"/api/domains/{domain['id']}/remains")
        assert (left["unsettled"], left["folder"]) == (True, f"{mounted}/{staging}")
        moved = {"domain_name": "shop.example.com", "user_id": 7, "document_root": f"{mounted}2"}
        refused = restless.call("PUT", f"/api/domains/{domain['id']}", 409, json=moved)
        assert f"remains/{left['id']}" in refused["detail"], "only its settings tell where it is to be settled"
        moved |= {"document_root": str(mounted), "exclusions": ["*.log"]}
        restless.call("PUT", f"/api/domains/{domain['id']}", json=moved)
    finally:
        for path in fixed:
            subprocess.run(["umount", str(path)], check=True)
    with sqlite3.connect(restless.folder / "data/liberu.db") as state:
        state.execute("UPDATE restore_remains SET due_at = '2020-01-01 00:00:00.000000'")
    restless.until(lambda: leftovers(mounted), lambda found: not found)
    assert same(old, mounted) == []


@needs_root
def test_an_operator_can_take_over_what_stopped_half_way(restless: Service, mounted: Path) -> None:
    domain, started, _ = given_up(restless, mounted)
    (staging,) = leftovers(mounted)
    (mounted / staging).rename(mounted / "elsewhere")  # it is lost for the service: nobody can settle this
    (mounted / staging).mkdir(mode=0o755)
    restless.start()
    ended = restless.wait(started)
    assert (ended["status"], ended["error_code"]) == ("failed", "swap_unfinished"), ended
    path = f"/api/domains/{domain['id']}"
    [left] = restless.call("GET", f"{path}/remains")
    restless.call("DELETE", path, 409)

    def free() -> bool:
        active = restless.call("GET", "/api/operations", params={"status": "running"})["data"]
        return not active and not restless.call("GET", "/api/operations", params={"status": "pending"})["data"]

    with sqlite3.connect(restless.folder / "data/liberu.db") as state:
        state.execute("UPDATE restore_remains SET due_at = '2099-01-01 00:00:00.000000'")
    restless.until(free, bool)
    restless.call("DELETE", f"{path}/remains/{left['id']}", 204)
    assert restless.call("GET", f"{path}/remains") == []
    assert list((mounted / "elsewhere" / "old").iterdir()), "nothing was removed"
    (mounted / staging).rmdir()
    assert restless.call("DELETE", path, 204) is None


@needs_root
def test_what_can_only_be_finished_later_keeps_what_it_replaced(restless: Service, mounted: Path) -> None:
    started, _, new = half_swapped(restless, register(restless, mounted), mounted)
    with sqlite3.connect(restless.folder / "data/liberu.db") as state:
        state.execute("UPDATE operations SET attempt = 5 WHERE id = ?", (started["id"],))
    (staging,) = leftovers(mounted)
    kept = (mounted / staging / "old").iterdir()
    old = next(path for path in kept if path.is_file() and not path.is_symlink())
    waits = mounted / "large.bin"
    for path in (old, waits):
        subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        restless.start()
        assert restless.wait(started)["error_code"] == "swap_unfinished"
        subprocess.run(["umount", str(waits)], check=True)  # forward is free; back is not
        with sqlite3.connect(restless.folder / "data/liberu.db") as state:
            state.execute("UPDATE restore_remains SET due_at = '2020-01-01 00:00:00.000000'")
        operations = restless.until(
            lambda: restless.call("GET", "/api/operations", params={"type": "tidy"})["data"],
            lambda found: any(one["status"] == "completed" for one in found),
        )
    finally:
        subprocess.run(["umount", str(old)], check=True)
    assert same(dict(new), mounted) == []
    assert any("is kept in" in str(one["result"]) for one in operations)
    assert (mounted / staging / "old" / "defaced").read_text() == "evil", "kept, as it was told"


def test_what_was_replaced_is_kept_named_and_can_be_taken_back(folder: Path, site: Path) -> None:
    service = Service(folder)
    service.start()
    try:
        domain = register(service, site)
        backup = service.backup(domain)
        (site / "newer.txt").write_text("precious")
        body = {"clear_existing": True, "dry_run": True}
        plan = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))
        live = plan["result"]["components"][0]["facts"]["live"]
        assert live["goes"]["names"] == ["newer.txt"]
        assert live["newer"]["files"] == 1
        assert live["stays"]["files"] == 0
        assert (site / "newer.txt").exists(), "a dry run touches nothing"
        body["dry_run"] = False
        ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))
        assert ended["status"] == "completed", ended
        facts = ended["result"]["components"][0]["facts"]
        assert not (site / "newer.txt").exists()
        assert Path(facts["replaced"]["folder"], "newer.txt").read_text() == "precious"
        assert service.backup(domain)["status"] == "completed"
        assert Path(facts["replaced"]["folder"], "newer.txt").exists(), "a day, not until the next backup"
    finally:
        service.stop()


def test_a_restore_adds_and_overwrites_unless_told_otherwise(
    service: Service, domain: dict[str, Any], site: Path
) -> None:
    backup = service.backup(domain)
    (site / "newer.txt").write_text("precious")
    (site / "large.bin").write_bytes(b"damaged")
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={}))
    assert ended["status"] == "completed", ended
    assert (site / "newer.txt").read_text() == "precious"
    assert (site / "large.bin").stat().st_size == 1 << 20
    assert ended["result"]["components"][0]["facts"]["live"]["stays"]["names"] == ["newer.txt"]


def test_what_the_exclusions_left_out_stays(service: Service, domain: dict[str, Any], site: Path) -> None:
    body = {
        **{key: domain[key] for key in ("domain_name", "user_id", "document_root")},
        "exclusions": ["/up", "*.log"],
    }
    service.call("PUT", f"/api/domains/{domain['id']}", json=body)
    (site / "up").mkdir()
    (site / "up" / "photo.jpg").write_text("photo")
    (site / "d00" / "today.log").write_text("log")
    backup = service.backup(domain)
    (site / "up" / "later.jpg").write_text("later")
    (site / "defaced").write_text("evil")
    body = {"clear_existing": True}
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body))
    assert ended["status"] == "completed", ended
    assert not (site / "defaced").exists()
    assert (site / "up" / "photo.jpg").read_text() == "photo"
    assert (site / "up" / "later.jpg").read_text() == "later"
    assert (site / "d00" / "today.log").read_text() == "log"
    live = ended["result"]["components"][0]["facts"]["live"]
    assert sorted(live["stays"]["names"]) == ["d00/today.log", "up/later.jpg", "up/photo.jpg"]
    assert live["goes"]["names"] == ["defaced"]


def test_a_busy_site_is_merged_while_files_come_and_go(service: Service, domain: dict[str, Any], site: Path) -> None:
    backup = service.backup(domain)
    script = """i=0; while [ -e "$1/go" ]; do i=$((i + 1)); echo $i >"$1/d00/s$i"; mv "$1/d00/s$i" "$1/d00/session"
        mkdir -p "$1/cache/$i"; echo x >"$1/cache/$i/x"; rm -rf "$1/cache/$((i - 3))"; done"""
    (site / "go").write_text("")
    busy = subprocess.Popen(["sh", "-c", script, "sh", str(site)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(3):
            ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={}))
            assert ended["status"] == "completed", ended
    finally:
        (site / "go").unlink()
        busy.wait()
    assert (site / "d00" / "session").exists()
