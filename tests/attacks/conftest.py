"""A home that is its tenant's, beside what nobody may touch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.attacks.tenant import UID, Tenant, facts
from tests.deployments.conftest import containers, engine, ssh

__all__ = ["containers", "engine", "ssh"]  # fixtures

SECRET = "what only root may read"


@dataclass
class Home:
    """`site` lies in `folder`, which is the tenant's as well; `key` is a file of root's in it, `private` a folder.
    `canary` is elsewhere on the same file system, and root's."""

    folder: Path
    site: Path
    key: Path
    private: Path
    canary: Path
    outside: list[str]

    def unharmed(self) -> None:
        """What is root's is as it was, wherever the tenant has moved it."""
        assert facts(self.canary) == self.outside
        for path in self.folder.rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            status = path.stat()
            if status.st_nlink == 1 and path.read_bytes() == SECRET.encode():
                assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o600), f"{path} was given away"


@pytest.fixture
def home() -> Iterator[Home]:
    if os.geteuid() != 0:
        pytest.skip("needs root and other users")
    top = Path(tempfile.mkdtemp(prefix="liberu-attack-"))
    top.chmod(0o755)
    folder, canary = top / "home", top / "canary"
    site = folder / "www"
    (site / "sub" / "deep").mkdir(parents=True)
    for name in ("a.php", "b.php", "sub/c.php", "sub/deep/d.php"):
        (site / name).write_text(name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)
    folder.chmod(0o755)
    key, private = folder / "server.key", folder / "private"
    private.mkdir(mode=0o700)
    for path in (key, private / "inner"):
        path.write_text(SECRET)
        path.chmod(0o600)
    (canary / "sub" / "deep").mkdir(parents=True)
    for name in ("a.php", "secret", "sub/c.php", "sub/secret", "sub/deep/d.php"):
        (canary / name).write_text(f"{SECRET}: {name}")
        (canary / name).chmod(0o600)
    canary.chmod(0o700)
    yield Home(folder, site, key, private, canary, facts(canary))
    shutil.rmtree(top)


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    made = Tenant()
    yield made
    made.end()
