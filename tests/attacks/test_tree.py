"""What a tenant who owns a site's folder, and the one above it, wants from root who works in it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mail import MailComponent, MailTarget
from app.deployments import descriptors
from app.deployments.base import User
from app.deployments.descriptors import open_below, open_folder, opened, opened_at
from app.deployments.local_swap import prepare
from app.deployments.standalone import StandaloneDeployment
from app.deployments.swap import pack
from app.deployments.tree import SwapPlan
from app.errors import LiberuError, StagingLost, SwapImpossible, TargetMissing
from tests.attacks.conftest import SECRET, Home
from tests.attacks.moments import before_each, named
from tests.attacks.tenant import UID, Tenant, facts
from tests.components.helpers import Context, collect

OWNER = User(UID, UID)
STAGING = ".liberu-restore-op1"


def component(home: Home) -> FilesComponent:
    return FilesComponent(StandaloneDeployment(), FilesTarget(str(home.site), OWNER))


async def test_a_tenant_wants_the_weaker_way_by_deleting_the_probe(home: Home, tenant: Tenant) -> None:
    tree = StandaloneDeployment().tree
    assert await tree.swap_mode(str(home.site)) == "exchange"
    deeds = 0

    def act(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal deeds
        deeds += 1
        tenant.do(
            "for name in os.listdir(home):\n"
            "  if name.startswith('.liberu-restore-probe-'):\n"
            "    try: os.rmdir(home + '/' + name)\n"
            "    except OSError: os.rename(home + '/' + name, home + '/moved-%d' % len(os.listdir(home)))\n",
            home=home.folder,
        )

    with before_each(act):
        try:
            mode: str = await tree.swap_mode(str(home.site))
        except SwapImpossible as error:
            mode = f"refused: {error.message}"
    print(f"swap_mode with a tenant who removes the probes: {mode}")
    assert deeds
    assert mode == "exchange" or mode.startswith("refused")


async def test_a_tenant_wants_root_s_key_by_way_of_a_staging_folder_of_their_own(home: Home, tenant: Tenant) -> None:
    plan = SwapPlan(str(home.site), "op1", "exchange", True)
    moved: list[str] = []

    def act(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and named(arguments, STAGING) and not moved:
            moved.append("staging")
            tenant.do(
                "os.rename(home + '/' + name, home + '/away'); os.mkdir(home + '/' + name)",
                home=home.folder, name=STAGING,
            )  # fmt: skip
        if event == "os.chown" and named(arguments, "new"):
            tenant.do(
                "os.rmdir(home + '/' + name + '/new');"
                "os.rename(home + '/server.key', home + '/' + name + '/new')",
                home=home.folder, name=STAGING,
            )  # fmt: skip

    with before_each(act):
        try:
            prepare(plan, OWNER, privileged=True)
        except (OSError, LiberuError) as error:
            print(f"refused: {error}")
    assert moved
    for path in (home.key, home.folder / STAGING / "new"):
        if path.is_file():
            print(f"the key: uid {path.stat().st_uid}")
    home.unharmed()


async def test_a_tenant_wants_another_folder_of_root_s_emptied(home: Home, tenant: Tenant) -> None:
    """A folder of root's is renamed to where staging was just made: its `old` and `new` would be removed later."""
    for name in ("new", "old"):
        (home.private / name).mkdir()
        (home.private / name / "inner").write_text(SECRET)
        (home.private / name / "inner").chmod(0o600)
    before = [line.split("/private", 1)[1] for line in facts(home.private)]
    plan = SwapPlan(str(home.site), "op1", "exchange", True)
    tree = StandaloneDeployment().tree
    moved: list[str] = []

    def act(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and named(arguments, STAGING) and not moved:
            moved.append("staging")
            tenant.do(
                "os.rename(home + '/' + name, home + '/away'); os.rename(home + '/private', home + '/' + name)",
                home=home.folder, name=STAGING,
            )  # fmt: skip

    with before_each(act):
        try:
            prepare(plan, OWNER, privileged=True)
        except (OSError, LiberuError) as error:
            print(f"refused: {error}")
    try:
        await tree.remove(plan)
    except (OSError, LiberuError) as error:
        print(f"refused: {error}")
    found = home.folder / STAGING
    after = [line.split(STAGING, 1)[1] for line in facts(found)] if found.exists() else []
    print(f"of {len(before)} entries {len([line for line in before if line in after])} are left")
    assert after == before


async def test_a_tenant_wants_another_users_file_by_its_permissions(home: Home, tenant: Tenant) -> None:
    """Who has entered `new` while tar, as the tenant, had it as its working folder."""
    tree = StandaloneDeployment().tree
    new = home.folder / "new"
    new.mkdir()
    os.chown(new, UID, UID)
    (new / "shared").write_text("x")
    os.chown(new / "shared", UID, UID)
    (new / "shared").chmod(0o666)
    target = home.canary / "secret"

    def act(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.chmod":
            tenant.do("os.rename(new + '/shared', new + '/x'); os.symlink(target, new + '/shared')",
                      new=new, target=target)  # fmt: skip

    with before_each(act):
        try:
            await tree.set_owners(str(new), [(b"shared", 33, 33)], OWNER)
        except LiberuError as error:
            print(f"refused: {error}")
    print(f"root's file: {stat.filemode(target.stat().st_mode)}")
    home.unharmed()


async def test_a_tenant_wants_root_s_key_given_to_a_user_of_theirs(home: Home, tenant: Tenant) -> None:
    """One that the allow-list names, as the web server's: its scripts are the tenant's."""
    tree = StandaloneDeployment().tree
    new = home.folder / "new"
    new.mkdir()
    os.chown(new, UID, UID)
    assert tenant.do("os.rename(home + '/server.key', home + '/new/shared')", home=home.folder) == ""
    try:
        await tree.set_owners(str(new), [(b"shared", 33, 33)], OWNER)
    except LiberuError as error:
        print(f"refused: {error}")
    print(f"root's key belongs to {(new / 'shared').stat().st_uid}")
    home.unharmed()


@pytest.mark.parametrize("what", ["carried over", "mail"])
async def test_a_tenant_wants_root_s_folder_given_to_them(home: Home, tenant: Tenant, what: str) -> None:
    """A folder that root makes in the live tree is replaced by another one before root has opened it."""
    deeds: list[str] = []

    def act(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and named(arguments, "made") and not deeds and (home.site / "made").is_dir():
            said = tenant.do(
                "os.rename(site + '/made', site + '/x'); os.rename(site + '/private', site + '/made')", site=home.site
            )
            if not said:
                deeds.append(event)

    if what == "mail":
        (home.site / "made").mkdir()
        (home.site / "made" / "1.host").write_text("mail")
        for path in (home.site / "made", home.site / "made" / "1.host"):
            os.chown(path, UID, UID)
        mail = MailComponent(StandaloneDeployment(), MailTarget(str(home.site), [], OWNER))
        content = await collect(await mail.dump())
        tenant.do("os.unlink(site + '/made/1.host'); os.rmdir(site + '/made')", site=home.site)
        os.rename(home.private, home.site / "private")
        with before_each(act):
            try:
                await mail.restore(from_bytes(content), Context().context, len(content))
            except LiberuError as error:
                print(f"refused: {error}")
    else:
        tree = StandaloneDeployment().tree
        plan = SwapPlan(str(home.site), "op1", "exchange", False)
        await tree.prepare(plan, OWNER)
        staging = Path(plan.staging_path)
        (staging / "new" / "a.php").write_text("new")
        await tree.measure(plan)
        await tree.forward(plan)
        (staging / "new" / "made").mkdir()  # by who still had the folder open
        (staging / "new" / "made" / "late").write_text("late")
        for path in (staging / "new" / "made", staging / "new" / "made" / "late", home.site):
            os.chown(path, UID, UID)
        os.rename(home.private, home.site / "private")
        with before_each(act):
            try:
                await tree.carry_over(plan, [b"."])
            except LiberuError as error:
                print(f"refused: {error}")
    for path in (home.site / "private", home.site / "made"):
        if path.exists() and (path / "inner").exists():
            print(f"root's folder belongs to {path.stat().st_uid}")
            assert path.stat().st_uid == 0
    home.unharmed()


async def test_a_tenant_wants_the_site_s_place_taken_by_another_folder(home: Home, tenant: Tenant) -> None:
    """The folder at the site's name is another one at the moment of the exchange."""
    tree = StandaloneDeployment().tree
    plan = SwapPlan(str(home.site), "op1", "exchange", True)
    await tree.prepare(plan, OWNER)
    await tree.measure(plan)
    deeds: list[str] = []

    def act(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "renameat2" and not deeds:
            code = "os.rename(home + '/www', home + '/x'); os.rename(home + '/private', home + '/www')"
            deeds.append(tenant.do(code, home=home.folder))

    told = True
    try:
        with before_each(act):
            await tree.forward(plan)
        print("the exchange was told to have succeeded")
    except LiberuError as error:
        print(f"refused: {error.message}")
        told = False
    assert deeds == [""]
    assert not told
    assert not (Path(plan.staging_path) / plan.tree / "inner").exists(), "root's folder is not what is removed"


async def test_a_tenant_wants_a_folder_made_elsewhere(home: Home, tenant: Tenant) -> None:
    """A document root that is not there is made by root: a link stands in its path."""
    tenant.do("os.symlink(canary, home + '/link')", home=home.folder, canary=home.canary)
    with pytest.raises(TargetMissing):
        await StandaloneDeployment().tree.make_folder(f"{home.folder}/link/new/www", OWNER)
    home.unharmed()


async def test_a_tenant_wants_root_s_folder_as_their_new_document_root(home: Home, tenant: Tenant) -> None:
    def act(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and named(arguments, "made") and (home.folder / "made").is_dir():
            code = "os.rename(home + '/made', home + '/x'); os.rename(home + '/private', home + '/made')"
            tenant.do(code, home=home.folder)

    with before_each(act), pytest.raises(SwapImpossible, match="replaced by somebody"):
        await StandaloneDeployment().tree.make_folder(f"{home.folder}/made", OWNER)
    assert (home.folder / "made").stat().st_uid == 0
    home.unharmed()


@pytest.mark.parametrize("name", [b"../canary/secret", b"..", b".", b"", b"sub/../../server.key"])
async def test_whoever_can_write_a_journal_wants_files_moved_from_elsewhere(home: Home, name: bytes) -> None:
    tree = StandaloneDeployment().tree
    plan = SwapPlan(str(home.site), "op1", "entries", True)
    await tree.prepare(plan, OWNER)
    await tree.measure(plan)
    plan.names = pack([b"o" + name])
    before = facts(home.folder / "private")
    for step in (tree.forward, tree.backward):
        with pytest.raises(SwapImpossible, match="not the name of an entry"):
            await step(plan)
    if name != b".":  # which is all of it
        with pytest.raises(SwapImpossible):
            await tree.carry_over(plan, [name])
    assert facts(home.folder / "private") == before
    home.unharmed()


async def test_a_tenant_wants_their_own_folder_taken_for_staging(home: Home, tenant: Tenant) -> None:
    """One that is not ours alone any more is not, whoever made it."""
    tree = StandaloneDeployment().tree
    plan = SwapPlan(str(home.site), "op1", "exchange", True)
    await tree.prepare(plan, OWNER)
    staging = Path(plan.staging_path)
    staging.chmod(0o755)
    with pytest.raises(StagingLost):
        await tree.measure(plan)
    staging.chmod(0o700)
    await tree.measure(plan)
    os.chown(staging, UID, UID)
    with pytest.raises(StagingLost):
        await tree.forward(plan)
    os.chown(staging, 0, 0)
    tenant.do("os.rename(staging, staging + '-x')", staging=staging)
    staging.mkdir(mode=0o700)
    with pytest.raises(StagingLost):
        await tree.forward(plan)


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.EPERM, errno.EAGAIN])
def test_a_tenant_wants_a_link_followed(home: Home, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With openat2, and where there is none or a filter of calls refuses it."""

    class Library:
        def syscall(self, *_: Any) -> int:
            ctypes.set_errno(number)
            return -1

    if number:
        monkeypatch.setattr(descriptors, "_libc", Library())
    (home.site / "link").symlink_to(home.canary)
    with opened(str(home.site)) as site:
        for parts in (["link"], ["link", "sub"], ["sub", "..", "link"], ["sub", ".."], [""]):
            with pytest.raises(OSError, match=r"Not a directory|not the name of an entry"):
                os.close(open_below(site, parts))
        with opened_at(site, ["sub", "deep"]) as deep:
            assert os.listdir(deep) == ["d.php"]
    with pytest.raises(OSError, match="Not a directory"):
        os.close(open_folder(f"{home.site}/link/sub"))
