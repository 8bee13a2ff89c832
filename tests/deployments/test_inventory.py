"""What is told of a tree's entries."""

from __future__ import annotations

import os
from pathlib import Path

from app.deployments.standalone import StandaloneDeployment


async def test_it_is_what_stat_tells(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    entries = [entry async for batch in StandaloneDeployment().tree.inventory(str(tmp_path)) for entry in batch]
    [entry], status = entries, path.stat()
    assert (entry.path, entry.type, entry.size) == (b"file", "f", 5)
    assert (entry.uid, entry.gid) == (status.st_uid, status.st_gid)
    assert abs(entry.mtime - status.st_mtime) < 0.001
