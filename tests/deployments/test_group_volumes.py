"""A volume with an fsGroup: its root is root's and the group's, with setgid; what is in it is the pod's user's."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.base import Report
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import Deployment, User
from app.deployments.kubernetes import Cluster, KubernetesDeployment
from demo.kubernetes_double import ClusterDouble, Pod
from demo.sample_files import differences, snapshot
from tests.components.helpers import Context, codes, collect

USER, GROUP = 1000, 2000
_TIME = 1_000_000_000_123_456_789


@dataclass
class Volume:
    deployment: Deployment
    root: Path

    @property
    def component(self) -> FilesComponent:
        """As a domain's is built: of the folder's owner."""
        return FilesComponent(self.deployment, FilesTarget(f"/tmp/{self.root.name}", User(0, GROUP)))

    async def restored(self, archive: bytes, clear: bool) -> Report:
        context = Context(secrets.token_hex(4), clear)
        report = await self.component.restore(from_bytes(archive), context.context, len(archive))
        await self.component.tidy(context.journal)
        return report


@pytest.fixture(params=["root", "pod's user"])
async def volume(request: pytest.FixtureRequest, cluster: ClusterDouble) -> AsyncGenerator[Volume, None]:
    inside = cluster.pods[0].containers["web"]
    root = inside / "tmp" / f"volume-{secrets.token_hex(4)}"
    mine = (USER, GROUP) if request.param != "root" else (0, GROUP)
    for folder in (root, root / "uploads"):
        folder.mkdir()
        os.chown(folder, 0 if folder == root else mine[0], GROUP)
        folder.chmod(0o2775)
    for file in (root / "index.php", root / "uploads/one"):
        file.write_text("as it was")
        os.chown(file, *mine)
    for folder in (root / "uploads", root):
        os.utime(folder, ns=(_TIME, _TIME))
    who = None if request.param == "root" else (USER, USER, GROUP)
    pod = Pod("hosting", root.name, {}, {"web": inside}, user=who)
    cluster.pods.append(pod)
    reached = Cluster(cluster.kubeconfig())
    made = KubernetesDeployment(reached, "hosting", root.name, "web")
    try:
        await made.prepare()
        yield Volume(made, root)
    finally:
        cluster.pods.remove(pod)
        await reached.close()


@pytest.mark.parametrize("clear", [True, False], ids=["cleared", "merged"])
async def test_it_comes_back_as_it_was_and_without_false_warnings(volume: Volume, clear: bool) -> None:
    archive = await collect(await volume.component.dump())
    before = snapshot(volume.root)
    (volume.root / "index.php").write_text("defaced")
    report = await volume.restored(archive, clear)
    after = snapshot(volume.root)
    assert codes(report) == []
    if not volume.deployment.privileged:  # the time of a folder of root's is not for others to set
        before[b"."] = (*before[b"."][:3], after[b"."][3], *before[b"."][4:])
    assert differences(before, after) == []


async def test_what_is_another_users_is_told(volume: Volume) -> None:
    os.chown(volume.root / "index.php", 33, 33)
    archive = await collect(await volume.component.dump())
    report = await volume.restored(archive, clear=True)
    [told] = [warning for warning in report.warnings if warning.code == "owner_changed"]
    assert (told.subject, "33:33" in told.message) == ("index.php", True)
    assert ("allow-list" in told.message) == volume.deployment.privileged
