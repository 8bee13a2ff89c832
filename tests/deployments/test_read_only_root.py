"""A pod with `readOnlyRootFilesystem: true`: only the site's volume can be written, and its shell is an old bash."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import Deployment, User
from app.errors import DeploymentUnreachable
from demo.kubernetes_double import ClusterDouble
from demo.sample_files import differences, make_site, snapshot
from tests.components.helpers import Context, collect
from tests.deployments.conftest import opened

OWNER = User(23456, 23456)


class Undone(Context):
    """The swap is done when the line goes down."""

    async def _record(self, entry: dict[str, Any]) -> None:
        if entry["plan"]["state"] == "swapped":
            raise DeploymentUnreachable("The line is down")
        await super()._record(entry)


@pytest.fixture
async def deployment(request: pytest.FixtureRequest) -> AsyncGenerator[Deployment, None]:
    async with opened("kubernetes-readonly", request) as made:
        yield made


@pytest.fixture
def site(cluster: ClusterDouble) -> Path:
    root = cluster.folder / "volume" / secrets.token_hex(4)
    make_site(root, files=30, large=1 << 20, uid=OWNER.uid)
    return root


async def test_nothing_but_the_volume_can_be_written(deployment: Deployment) -> None:
    script = 'for to in / /tmp /var /run /bin; do (echo >"$to/x") 2>/dev/null && echo "$to"; done; echo >/data/x'
    assert (await deployment.run(["sh", "-c", script])).stdout == b""


async def test_a_secret_needs_no_file(deployment: Deployment) -> None:
    secret = "first\\n\nlast 'line' %s\\"
    async with deployment.secret_file(secret) as path:
        assert (await deployment.run(["cat", path])).stdout.decode() == f"{secret}\n"
    async with deployment.secret_file(secret) as path:
        read = await deployment.run(["sh", "-c", 'cat; id -u; cat "$1"', "sh", path], input=b"input ", user=OWNER)
        assert read.stdout.decode() == f"input {OWNER.uid}\n{secret}\n"


@pytest.mark.parametrize("clear", [True, False], ids=["cleared", "merged"])
async def test_a_backup_a_restore_and_one_that_is_undone(deployment: Deployment, site: Path, clear: bool) -> None:
    component = FilesComponent(deployment, FilesTarget(f"/data/{site.name}", OWNER))
    archive = await collect(await component.dump())
    before = snapshot(site)
    (site / "large.bin").write_bytes(b"defaced")
    damaged = snapshot(site)
    with pytest.raises(DeploymentUnreachable):
        await component.restore(from_bytes(archive), Undone("undone", clear).context, len(archive))
    assert differences(damaged, snapshot(site)) == []
    again = Context("again", clear)
    await component.restore(from_bytes(archive), again.context, len(archive))
    await component.tidy(again.journal)
    assert (differences(before, snapshot(site)), list(site.glob(".liberu-*"))) == ([], [])
