"""Files: everything a tree holds comes back, and a live site is either old or new."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.base import Report
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import STAGING_PREFIX, User
from app.deployments.standalone import StandaloneDeployment
from app.errors import ArchiveDamaged, CommandFailed, ConsentRequired, MemberMismatch, OwnershipLost, TargetMissing
from demo.sample_files import differences, make_site, snapshot
from tests.components.helpers import SITE_UID, Context, codes, collect

OWNER = User(SITE_UID, SITE_UID if os.geteuid() == 0 else os.getegid())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "home" / "public_html"
    make_site(root, files=120, large=2 << 20, uid=SITE_UID if os.geteuid() == 0 else -1)
    return root


def component(root: Path, **options: object) -> FilesComponent:
    target = FilesTarget(str(root), OWNER, **options)  # type: ignore[arg-type]
    return FilesComponent(StandaloneDeployment(), target)


async def restored(target: FilesComponent, archive: bytes, context: Context) -> Report:
    report = await target.restore(from_bytes(archive), context.context, len(archive))
    await target.tidy(context.context.journal)
    return report


def leftovers(root: Path) -> list[str]:
    return [path.name for folder in (root, root.parent) for path in folder.iterdir() if STAGING_PREFIX in path.name]


@pytest.mark.parametrize("mode", ["exchange", "entries"])
async def test_everything_comes_back(root: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.deployments.local_tree._swap_mode", lambda path: mode)
    before = snapshot(root)
    dump = await component(root).dump()
    archive = await collect(dump)
    assert not dump.report.incomplete
    assert not dump.report.warnings
    shutil.rmtree(root / "d00")
    (root / "large.bin").write_bytes(b"damaged")
    (root / "defaced.php").write_text("evil")
    report = await restored(component(root), archive, Context())
    assert report.facts["mode"] == mode
    assert codes(report) == []
    after = snapshot(root)
    if mode == "entries":  # the root folder itself stays, with its own time
        before.pop(b"."), after.pop(b".")
    assert differences(before, after) == []
    assert (root / "sparse.img").stat().st_blocks * 512 < 1 << 20
    assert leftovers(root) == []


@pytest.mark.parametrize("mode", ["exchange", "entries"])
async def test_without_clear_existing_newer_files_stay(
    root: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.deployments.local_tree._swap_mode", lambda path: mode)
    archive = await collect(await component(root).dump())
    before = snapshot(root)
    (root / "uploaded since.jpg").write_text("keep me")
    (root / "d00" / "new folder").mkdir()
    (root / "d00" / "new folder" / "x").write_text("keep me too")
    (root / "hard-1").unlink()
    shutil.rmtree(root / "d01")
    (root / "d01").write_text("a file where a folder was")
    (root / "empty").unlink()
    (root / "empty").mkdir()
    (root / "empty" / "inner").write_text("a folder where a file was")
    await restored(component(root), archive, Context(clear=False))
    assert (root / "uploaded since.jpg").read_text() == "keep me"
    assert (root / "d00" / "new folder" / "x").read_text() == "keep me too"
    after = snapshot(root)
    for path in (b"uploaded since.jpg", b"d00/new folder", b"d00/new folder/x"):
        after.pop(path)
    if mode == "entries":
        before.pop(b"."), after.pop(b".")
    assert differences(before, after) == []
    assert leftovers(root) == []


async def test_a_file_written_while_the_clone_is_made_is_carried_over(root: Path) -> None:
    archive = await collect(await component(root).dump())
    context = Context(clear=False)

    async def late() -> None:
        (root / "late.txt").write_text("written after the clone")

    object.__setattr__(context.context, "confirm", late)
    report = await restored(component(root), archive, context)
    assert (root / "late.txt").read_text() == "written after the clone"
    assert report.facts["carried_over"] == 1


@pytest.mark.parametrize("cut", [0, 511, 512 * 40, -10240])
async def test_a_cut_archive_changes_nothing(root: Path, cut: int) -> None:
    archive = await collect(await component(root).dump())
    before = snapshot(root)
    cut_archive = archive.rstrip(b"\0") if cut < 0 else archive[:cut]
    with pytest.raises((ArchiveDamaged, CommandFailed)):
        await component(root).restore(from_bytes(cut_archive), Context().context, len(archive))
    assert differences(before, snapshot(root)) == []
    assert leftovers(root) == []


async def test_an_error_in_the_source_changes_nothing(root: Path) -> None:
    archive = await collect(await component(root).dump())
    before = snapshot(root)

    async def damaged() -> AsyncGenerator[bytes, None]:
        yield archive[: len(archive) // 2]
        raise ArchiveDamaged("hash differs")

    with pytest.raises(ArchiveDamaged, match="hash differs"):
        await component(root).restore(damaged(), Context().context, len(archive))
    assert differences(before, snapshot(root)) == []
    assert leftovers(root) == []


async def test_lost_ownership_before_the_swap_changes_nothing(root: Path) -> None:
    archive = await collect(await component(root).dump())
    before = snapshot(root)
    context = Context()
    context.fail = OwnershipLost("another attempt took over")
    with pytest.raises(OwnershipLost):
        await component(root).restore(from_bytes(archive), context.context, len(archive))
    assert differences(before, snapshot(root)) == []
    assert leftovers(root) == []


@pytest.fixture
def busybox_tools() -> Iterator[Path]:
    """A search path on which tar is busybox's; outside tmp_path, which other users cannot enter."""
    busybox = shutil.which("busybox")
    assert busybox
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder)
        tools.chmod(0o755)
        for tool in ("tar", "rm", "sh", "cat"):
            (tools / tool).symlink_to(busybox)
        yield tools


async def test_a_tar_that_lies_is_caught(root: Path, busybox_tools: Path) -> None:
    """busybox extracts GNU sparse members under other names with status 0."""
    archive = await collect(await component(root).dump())
    before = snapshot(root)
    limited = FilesComponent(StandaloneDeployment(str(busybox_tools)), FilesTarget(str(root), OWNER))
    with pytest.raises((MemberMismatch, CommandFailed)):
        await limited.restore(from_bytes(archive), Context().context, len(archive))
    assert differences(before, snapshot(root)) == []
    assert leftovers(root) == []


async def test_busybox_tar_keeps_plain_files_and_says_what_it_loses(tmp_path: Path, busybox_tools: Path) -> None:
    root = tmp_path / "site"
    root.mkdir()
    (root / "index.html").write_text("hello")
    (root / "sub").mkdir()
    (root / "sub" / "x").write_text("x")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)
    limited = FilesComponent(StandaloneDeployment(str(busybox_tools)), FilesTarget(str(root), OWNER))
    dump = await limited.dump()
    archive = await collect(dump)
    assert codes(dump.report) == ["tar_limited"]
    (root / "index.html").write_text("defaced")
    await restored(limited, archive, Context())
    assert (root / "index.html").read_text() == "hello"
    assert (root / "sub" / "x").read_text() == "x"


@needs_root
async def test_unreadable_files_make_it_incomplete_each_named(root: Path) -> None:
    os.chown(root / "empty", 0, 0)
    (root / "empty").chmod(0)
    (root / "locked").mkdir(mode=0o700)
    dump = await component(root, reader=OWNER).dump()
    archive = await collect(dump)
    assert sorted(str(lack.subject) for lack in dump.report.incomplete) == ["empty", "locked"]
    context = Context(clear=False)
    report = await restored(component(root), archive, context)
    assert "empty" not in codes(report)


@needs_root
async def test_owners_come_from_the_allow_list_or_are_reported(root: Path) -> None:
    os.chown(root / "large.bin", 33, 33)
    os.chown(root / "hard-1", 44, 44)
    os.chown(root / "link-broken", 0, 0, follow_symlinks=False)
    archive = await collect(await component(root).dump())
    report = await component(root, allowed_uids=frozenset({33}), allowed_gids=frozenset({33})).restore(
        from_bytes(archive), Context().context, len(archive)
    )
    assert (root / "large.bin").stat().st_uid == 33
    assert (root / "hard-1").stat().st_uid == SITE_UID
    assert (root / "link-broken").lstat().st_uid == SITE_UID
    assert set(codes(report)) == {"owner_changed"}


async def test_exclusions(root: Path) -> None:
    target = component(root, exclusions=["/d00", "*.bin", "-rf", "odd names/*.txt"])
    archive = await collect(await target.dump())
    names = subprocess.run(["tar", "-tf", "-"], input=archive, capture_output=True, check=True).stdout
    assert b"./d00/" not in names
    assert b"large.bin" not in names
    assert b"./odd names/-rf" not in names
    assert b"with space.txt" not in names
    assert b"./d01/" in names
    assert b"./odd names/.htaccess" in names


async def test_exclusions_are_no_options(root: Path, tmp_path: Path) -> None:
    target = component(root, exclusions=["--checkpoint=1", f"--checkpoint-action=exec=touch {tmp_path}/pwned"])
    await collect(await target.dump())
    assert not (tmp_path / "pwned").exists()


async def test_a_missing_or_linked_document_root(tmp_path: Path) -> None:
    with pytest.raises(TargetMissing):
        await component(tmp_path / "nowhere").dump()
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(TargetMissing):
        await component(tmp_path / "link").dump()
    with pytest.raises(TargetMissing):
        await component(tmp_path / "link" / "apt").dump()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "mounted"
    root.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(root)], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting needs root")
    yield root
    subprocess.run(["umount", str(root)], check=True)


async def test_a_document_root_that_is_a_mount_point_swaps_its_entries(mounted: Path) -> None:
    make_site(mounted, files=30, large=2 << 20, uid=SITE_UID)
    before = snapshot(mounted)
    archive = await collect(await component(mounted).dump())
    shutil.rmtree(mounted / "d00")
    report = await restored(component(mounted), archive, Context())
    assert report.facts["mode"] == "entries"
    after = snapshot(mounted)
    before.pop(b"."), after.pop(b".")
    assert differences(before, after) == []
    assert leftovers(mounted) == []


async def test_no_room_needs_consent_and_then_restores_in_place(mounted: Path) -> None:
    (mounted / "big").write_bytes(os.urandom(90 << 20))
    (mounted / "page").write_text("old")
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(mounted)], check=True)
    archive = await collect(await component(mounted).dump())
    (mounted / "page").write_text("defaced")
    with pytest.raises(ConsentRequired):
        await component(mounted).restore(from_bytes(archive), Context().context, len(archive))
    assert (mounted / "page").read_text() == "defaced"
    report = await restored(component(mounted), archive, Context(in_place=True))
    assert codes(report) == ["in_place"]
    assert (mounted / "page").read_text() == "old"
