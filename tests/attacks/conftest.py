"""The attacked service, a real one in its own process; and a home beside what nobody may touch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.docker_engine import DockerEngine
from tests.attacks.tenant import UID, Tenant, facts
from tests.deployments.conftest import containers, engine, opened, ssh
from tests.deployments.test_swap_matrix import Faulty, _Entries
from tests.service.conftest import domain, folder, service, site

__all__ = ["containers", "domain", "engine", "folder", "service", "site", "ssh"]  # fixtures

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


def furnished(top: Path) -> Home:
    """In a folder of root's that everybody may enter."""
    top.chmod(0o755)
    folder, canary = top / "home", top / "canary"
    site = folder / "www"
    (site / "sub" / "deep").mkdir(parents=True)
    for name in ("a.php", "b.php", "sub/c.php", "sub/secret", "sub/deep/d.php"):
        (site / name).write_text(name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)
    key, private = folder / "server.key", folder / "private"
    private.mkdir(mode=0o700)
    for path in (key, private / "inner"):
        path.write_text(SECRET)
        path.chmod(0o600)
    (canary / "sub" / "deep").mkdir(parents=True)
    for name in ("a.php", "c.php", "secret", "sub/c.php", "sub/secret", "sub/deep/d.php"):
        (canary / name).write_text(f"{SECRET}: {name}")
        (canary / name).chmod(0o600)
    canary.chmod(0o700)
    return Home(folder, site, key, private, canary, facts(canary))


@pytest.fixture
def home() -> Iterator[Home]:
    if os.geteuid() != 0:
        pytest.skip("needs root and other users")
    top = Path(tempfile.mkdtemp(prefix="liberu-attack-"))
    yield furnished(top)
    shutil.rmtree(top)


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    made = Tenant()
    yield made
    made.end()


@dataclass
class Field:
    """A home where a deployment runs; `root` is how this machine sees the other's root folder."""

    kind: str
    deployment: Any
    root: Path
    home: Home
    tenant: Tenant

    def there(self, path: Path) -> str:
        return f"/{path.relative_to(self.root)}"


@pytest.fixture
async def field(request: pytest.FixtureRequest) -> AsyncGenerator[Field, None]:
    """`request.param`: a kind of place, or `entries`."""
    if os.geteuid() != 0:
        pytest.skip("needs root and other users")
    kind: str = request.param
    async with opened("standalone" if kind == "entries" else kind, request) as deployment:
        root = Path("/")
        if kind.startswith("docker"):
            started: DockerEngine = request.getfixturevalue("engine")
            container = request.getfixturevalue("containers")[kind]
            root = Path(f"/proc/{started.run('inspect', '-f', '{{.State.Pid}}', container)}/root")
        top = Path(tempfile.mkdtemp(prefix="liberu-attack-", dir=root / "tmp"))
        tenant = Tenant(root=None if kind in ("standalone", "entries", "ssh") else root)
        made: Any = Faulty(deployment, _Entries(deployment.tree)) if kind == "entries" else deployment
        try:
            yield Field(kind, made, root, furnished(top), tenant)
        finally:
            tenant.end()
            shutil.rmtree(top)
