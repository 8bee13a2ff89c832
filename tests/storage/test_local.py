"""What only the local disk promises: private modes, clear errors for a bad folder or a full disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import DestinationInvalid, NoSpace
from app.storage.local import LocalDriver
from tests.storage.test_contract import stream


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
