"""The same wants where root works through a shell: over SSH, and in containers.

A tenant who knows the moment wins such a race at once. Here they flip a name as fast as they can, and root does its
work a number of times.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app.deployments.base import Deployment, User
from app.deployments.ssh import SshDeployment, server_of
from app.deployments.swap import pack
from app.deployments.tree import SwapPlan
from app.errors import LiberuError, StagingLost, SwapImpossible, TargetMissing
from demo.ssh_servers import SshHost
from tests.attacks.conftest import Home
from tests.attacks.tenant import UID, Tenant, facts

OWNER = User(UID, UID)
FLIP = "exchange('sub', 'flip', kept['folder'])"


@pytest.fixture
async def there(ssh: SshHost) -> AsyncGenerator[Deployment, None]:
    async def forget(_: object) -> None:
        return None

    deployment = SshDeployment(server_of(ssh.configuration), forget)
    await deployment.prepare()
    yield deployment
    await deployment.close()


@contextmanager
def entered(tenant: Tenant, folder: Path) -> Iterator[None]:
    """The tenant gets hold of a folder that they cannot reach, by a process of theirs that works in it, as tar does
    while it extracts."""
    with subprocess.Popen(["/bin/sleep", "1000"], cwd=folder, user=UID, group=UID, extra_groups=[]) as working:
        try:
            said = tenant.do("kept['folder'] = os.open('/proc/' + pid + '/cwd', os.O_RDONLY)", pid=working.pid)
            assert said == "", said
        finally:
            working.kill()
    yield


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("the tenant's")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)


async def test_a_tenant_wants_files_elsewhere_given_away(home: Home, tenant: Tenant, there: Deployment) -> None:
    new = home.folder / "new"
    fill(new, [f"sub/{name}" for name in ("a.php", "secret")])
    (new / "flip").symlink_to(home.canary)
    names = [(b"sub/a.php", 33, 33), (b"sub/secret", 33, 33)] * 20
    with entered(tenant, new), tenant.racing(FLIP) as racer:
        for _ in range(8):
            with suppress(LiberuError):
                await there.tree.set_owners(str(new), names, OWNER)
            if facts(home.canary) != home.outside:
                break
    print(f"after {racer.turns} flips root's files belong to {(home.canary / 'secret').stat().st_uid}")
    assert racer.turns > 100
    home.unharmed()


async def test_a_tenant_wants_files_elsewhere_in_their_site(home: Home, tenant: Tenant, there: Deployment) -> None:
    """A hard link that root makes for them is in their next backup."""
    plan = SwapPlan(str(home.site), "op1", "entries", False)
    await there.tree.prepare(plan, OWNER)
    new = Path(plan.staging_path) / "new"
    fill(new, [f"sub/{name}" for name in ("a.php", "secret", *(f"f{n}" for n in range(50)))])
    with entered(tenant, new):
        tenant.do("os.symlink(canary, 'flip', dir_fd=kept['folder'])", canary=home.canary)
        with tenant.racing(FLIP) as racer:
            for _ in range(8):
                with suppress(LiberuError):
                    await there.tree.merge(plan, [b"."])
                if facts(home.canary) != home.outside:
                    break
    print(f"after {racer.turns} flips root's file has {(home.canary / 'secret').stat().st_nlink} names")
    assert racer.turns > 100
    home.unharmed()


async def test_a_tenant_wants_to_write_elsewhere_by_a_link_in_their_backup(home: Home, there: Deployment) -> None:
    """No race at all: what is a link in the backup is a folder in the live site."""
    plan = SwapPlan(str(home.site), "op1", "entries", False)
    await there.tree.prepare(plan, OWNER)
    (Path(plan.staging_path) / "new" / "flip").symlink_to(home.canary)
    fill(home.site / "flip", ["evil", "sub/evil", "sub/deep/evil"])
    await there.tree.merge(plan, [b"."])
    planted = [str(path.relative_to(home.canary)) for path in home.canary.rglob("evil")]
    print(f"root has made {planted} in root's own folder")
    home.unharmed()
    assert (Path(plan.staging_path) / "merged" / "flip").is_symlink()


async def test_a_tenant_wants_to_write_elsewhere(home: Home, tenant: Tenant, there: Deployment) -> None:
    """What came while the swap was under way becomes part of the old tree, which the tenant still has open."""
    for number in range(8):
        plan = SwapPlan(str(home.site), f"op{number}", "entries", False)
        plan.roots = pack([b"."])
        await there.tree.prepare(plan, OWNER)
        staging = Path(plan.staging_path)
        for name in ("old", "arrived", "half", "taken"):
            (staging / name).mkdir()
        for name in ("times", "new-times"):
            (staging / name).touch()
        fill(staging / "new", ["tree/x"])
        fill(staging / "old" / "tree", ["sub/y"])
        fill(home.site / "tree", [f"sub/f{n}" for n in range(30)])
        plan.names = pack([b"btree"])
        with entered(tenant, staging / "old" / "tree"):
            tenant.do("os.symlink(canary, 'flip', dir_fd=kept['folder'])", canary=home.canary)
            with tenant.racing(FLIP) as racer, suppress(LiberuError):
                await there.tree.forward(plan)
        assert racer.turns
        if facts(home.canary) != home.outside:
            break
    planted = [path.name for path in home.canary.iterdir() if path.name.startswith("f")]
    print(f"root has made {len(planted)} files of the tenant's in root's own folder")
    home.unharmed()


@pytest.mark.parametrize("link", [True, False])
async def test_a_tenant_wants_a_folder_made_elsewhere(
    home: Home, tenant: Tenant, there: Deployment, link: bool
) -> None:
    """A document root that is not there is made by root, step by step."""
    tenant.do("os.symlink(canary, home + '/link')", home=home.folder, canary=home.canary)
    if link:
        with pytest.raises(TargetMissing, match="symbolic link"):
            await there.tree.make_folder(f"{home.folder}/link/new/www", OWNER)
    else:
        await there.tree.make_folder(f"{home.folder}/new/www", OWNER)
        assert (home.folder / "new" / "www").stat().st_uid == UID
        assert (home.folder / "new").stat().st_uid == 0
    home.unharmed()


async def test_a_tenant_wants_root_s_key_given_to_a_user_of_theirs(
    home: Home, tenant: Tenant, there: Deployment
) -> None:
    """What is given away is what was extracted, as its owner."""
    new = home.folder / "new"
    fill(new, ["sub/mine", "sub/shared"])
    (new / "sub" / "shared").chmod(0o2770)
    tenant.do("os.rename(home + '/server.key', home + '/new/sub/key')", home=home.folder)
    names = [(b"sub", 33, 33), *((b"sub/" + name, 33, 33) for name in (b"key", b"mine", b"shared", b"gone"))]
    refused = await there.tree.set_owners(str(new), names, OWNER)
    assert sorted(refused) == [b"sub/gone", b"sub/key"]
    owners = {path.name: path.stat().st_uid for path in (new / "sub", *(new / "sub").iterdir())}
    assert owners == {"sub": 33, "key": 0, "mine": 33, "shared": 33}
    assert (new / "sub" / "shared").stat().st_mode & 0o7777 == 0o2770
    home.unharmed()


async def test_a_tenant_wants_their_own_folder_taken_for_staging(
    home: Home, tenant: Tenant, there: Deployment
) -> None:
    plan = SwapPlan(str(home.site), "op1", "entries", True)
    await there.tree.prepare(plan, OWNER)
    await there.tree.measure(plan)
    staging = Path(plan.staging_path)
    staging.chmod(0o755)
    with pytest.raises(StagingLost):
        await there.tree.forward(plan)
    staging.chmod(0o700)
    tenant.do("os.rename(staging, staging + '-x')", staging=staging)
    staging.mkdir(mode=0o700)
    with pytest.raises(StagingLost):
        await there.tree.forward(plan)
    assert {path.name for path in home.site.iterdir()} >= {"a.php", "b.php", "sub"}


@pytest.mark.parametrize("name", [b"../server.key", b"..", b"sub/../../server.key"])
async def test_whoever_can_write_a_journal_wants_files_moved_from_elsewhere(
    home: Home, there: Deployment, name: bytes
) -> None:
    plan = SwapPlan(str(home.site), "op1", "entries", True)
    await there.tree.prepare(plan, OWNER)
    await there.tree.measure(plan)
    plan.names = pack([b"o" + name])
    with pytest.raises(SwapImpossible, match="not the name of an entry"):
        await there.tree.forward(plan)
    home.unharmed()


async def test_folders_of_a_merge_keep_what_they_had(home: Home, there: Deployment) -> None:
    """Where nothing may copy a tree as a whole."""
    plan = SwapPlan(str(home.site), "op1", "entries", False)
    await there.tree.prepare(plan, OWNER)
    staging = Path(plan.staging_path)
    fill(staging / "new", ["uploads/x", "plain/deep/y"])
    subprocess.run(["setfacl", "-d", "-m", "u:33:rwx", str(staging / "new" / "uploads")], check=True)
    (staging / "new" / "plain").chmod(0o2751)
    for name, when in (("uploads", 10**9), ("plain/deep", 10**9 + 1), ("plain", 10**9 + 2), (".", 10**9 + 3)):
        os.utime(staging / "new" / name, (when, when))
    await there.tree.merge(plan, [])
    for name in (".", "plain", "plain/deep", "uploads"):
        was, now = (staging / "new" / name).stat(), (staging / "merged" / name).stat()
        assert (was.st_mode, was.st_uid, was.st_mtime) == (now.st_mode, now.st_uid, now.st_mtime), name
        acl = ["getfacl", "-n", "-c", name]
        lists = [subprocess.check_output(acl, cwd=staging / tree) for tree in ("new", "merged")]
        assert lists[0] == lists[1]
    assert {path.name for path in (staging / "merged").rglob("*")} == {"uploads", "x", "plain", "deep", "y"}
