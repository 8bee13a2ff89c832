"""What only the local disk promises: private modes, clear errors for a bad folder or a full disk."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import DestinationInvalid, DestinationUnreachable, NoSpace
from app.storage.local import LocalDriver
from tests.storage.test_contract import keys, read, stream


async def test_backups_are_readable_by_the_service_alone(tmp_path: Path) -> None:
    os.umask(0)
    try:
        driver = LocalDriver(tmp_path / "root")
        await driver.make_place()
        await driver.put("a/b", stream(b"1"))
    finally:
        os.umask(0o022)
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root/a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root/a/b").stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DestinationInvalid):
        await LocalDriver(tmp_path / "root").check()


async def test_a_symlinked_object_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "k").symlink_to(tmp_path / "secret")
    with pytest.raises(DestinationInvalid):
        [chunk async for chunk in LocalDriver(root).get("k")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_a_typed_error_and_leaves_nothing(small_disk: Path) -> None:
    driver = LocalDriver(small_disk / "root")
    await driver.make_place()
    await driver.put("old", stream(b"kept"))
    with pytest.raises(NoSpace):
        await driver.put("big", stream(*[b"x" * (1 << 20)] * 4))
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["old"]


def at_fsync_of_a_folder(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    fsync = os.fsync

    def patched(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            then()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", patched)


@pytest.mark.parametrize("former", [b"kept", None])
async def test_cancelled_while_it_becomes_durable_a_put_shows_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, former: bytes | None
) -> None:
    driver = LocalDriver(tmp_path)
    if former is not None:
        await driver.put("k", stream(former))
    renamed, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        loop.call_soon_threadsafe(renamed.set)
        go_on.wait(30)

    at_fsync_of_a_folder(monkeypatch, wait)
    task = asyncio.create_task(driver.put("k", stream(b"new")))
    await renamed.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    loop.call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    if former is None:
        assert await keys(driver) == []
    else:
        assert await read(driver, "k") == former
    assert [path.name for path in tmp_path.iterdir() if path.name != "k"] == []


@pytest.mark.parametrize("former", [b"kept", None])
async def test_a_folder_that_cannot_be_made_durable_shows_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, former: bytes | None
) -> None:
    driver = LocalDriver(tmp_path)
    if former is not None:
        await driver.put("k", stream(former))

    def fail() -> None:
        raise OSError(5, "Input/output error")

    at_fsync_of_a_folder(monkeypatch, fail)
    with pytest.raises(DestinationUnreachable):
        await driver.put("k", stream(b"new"))
    monkeypatch.undo()
    assert await keys(driver) == ([] if former is None else ["k"])
    if former is not None:
        assert await read(driver, "k") == former
    assert [path.name for path in tmp_path.iterdir() if path.name != "k"] == []


async def test_what_another_put_has_published_since_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = LocalDriver(tmp_path)

    def replaced_and_failed() -> None:
        (tmp_path / "other").write_bytes(b"another's")
        (tmp_path / "other").replace(tmp_path / "k")
        raise OSError(5, "Input/output error")

    at_fsync_of_a_folder(monkeypatch, replaced_and_failed)
    with pytest.raises(DestinationUnreachable):
        await driver.put("k", stream(b"new"))
    assert await read(driver, "k") == b"another's"


async def test_nothing_stays_of_a_put_that_replaced(tmp_path: Path) -> None:
    driver = LocalDriver(tmp_path)
    for content in (b"1", b"22", b"333"):
        await driver.put("k", stream(content))
    await asyncio.get_running_loop().shutdown_default_executor()
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@pytest.mark.parametrize("seconds", [-(1 << 40), 1 << 40])
async def test_times_of_no_calendar_are_unknown_ones(small_disk: Path, seconds: int) -> None:
    """tmpfs keeps any time; a sweep leaves what it cannot date."""
    driver = LocalDriver(small_disk)
    await driver.put("k", stream(b"1"))
    os.utime(small_disk / "k", (seconds, seconds))
    assert (await driver.stat("k")).modified_at is None
    assert [info.modified_at async for info in driver.list()] == [None]


async def test_leftovers_that_vanish_meanwhile(tmp_path: Path) -> None:
    driver = LocalDriver(tmp_path)
    later = datetime.now(UTC) + timedelta(hours=1)

    def churn() -> None:
        for number in range(3000):
            path = tmp_path / f".put-{number}"
            path.touch()
            path.unlink(missing_ok=True)

    churning = asyncio.ensure_future(asyncio.to_thread(churn))
    while not churning.done():
        await driver.remove_leftovers("", later)
        await asyncio.sleep(0)
    await churning


async def test_a_listing_of_very_many_is_given_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.spill._KEPT", 20)
    monkeypatch.setattr("app.storage.spill._BLOCK", 10)
    for number in range(500):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}/x").touch()
    assert await keys(LocalDriver(tmp_path)) == sorted(f"d{number}/x" for number in range(500))
