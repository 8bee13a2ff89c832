"""What a dump of a tree leaves out or cannot have whole is named; nothing is stored as something else in silence."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.base import Dump, Report
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.tar_tool import judge_stderr
from app.components.tree_survey import longest
from app.deployments.base import MAX_STDERR, STAGING_PREFIX, User
from app.deployments.standalone import StandaloneDeployment
from app.errors import DumpIncomplete
from demo.odd_disk import odd_disk
from tests.components.helpers import SITE_UID, Context, codes, collect

OWNER = User(SITE_UID, SITE_UID if os.geteuid() == 0 else os.getegid())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "home" / "public_html"
    made.mkdir(parents=True)
    return made


def owned(root: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["chown", "-hR", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)


async def dumped(root: Path, *exclusions: str, tools: Path | None = None) -> tuple[Dump, bytes]:
    deployment = StandaloneDeployment() if tools is None else StandaloneDeployment(str(tools))
    dump = await FilesComponent(deployment, FilesTarget(str(root), OWNER, exclusions=exclusions)).dump()
    return dump, await collect(dump)


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        return {member.name: member for member in found}


def content(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        file = found.extractfile(name)
        assert file is not None
        return file.read()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where a test mounts one."""
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


@needs_root
async def test_a_block_that_cannot_be_read_costs_one_file(root: Path, disk: Path) -> None:
    damaged = os.urandom(100_000)
    (root / "a:b\n\xe9.jpg").write_bytes(damaged)
    (root / "holes.img").write_bytes(b"x" * 50_000)
    with (root / "holes.img").open("r+b") as file:
        file.truncate(10 << 20)
    (root / "z").mkdir()
    (root / "z" / "index.html").write_text("hello")
    with odd_disk(disk, root, bad={"a:b\n\xe9.jpg": 50_000, "holes.img": 20_000}):
        dump, archive = await dumped(disk)
    report = dump.report
    assert [(lack.code, lack.subject) for lack in report.incomplete] == [
        ("unreadable", "a:b\n\xe9.jpg"),
        ("unreadable", "holes.img"),
    ]
    assert all("Input/output error" in lack.message for lack in report.incomplete)
    assert all("may be zeros" in lack.message for lack in report.incomplete)
    assert report.facts["not_whole"] == ["a:b\n\xe9.jpg", "holes.img"]
    assert content(archive, "./z/index.html") == b"hello"
    kept = content(archive, "./a:b\n\xe9.jpg")
    assert len(kept) == len(damaged)
    assert kept[:40_960] == damaged[:40_960]


@needs_root
@pytest.mark.parametrize("blocks", [0, 1])
async def test_files_that_take_no_blocks_are_not_stored_as_zeros(root: Path, disk: Path, blocks: int) -> None:
    (root / "page.php").write_bytes(b"<?php " + b"x" * 5000)
    (root / "photo.jpg").write_bytes(photo := os.urandom(300_000))
    with odd_disk(disk, root, blocks=blocks):
        dump, archive = await dumped(disk)
    assert codes(dump.report) == []
    assert content(archive, "./page.php") == b"<?php " + b"x" * 5000
    assert content(archive, "./photo.jpg") == photo
    assert dump.report.facts["holes"] == "stored as zeros"


@needs_root
async def test_a_file_without_blocks_that_cannot_be_read_is_no_hole(root: Path, disk: Path) -> None:
    (root / "photo.jpg").write_bytes(bytes(300_000))
    with odd_disk(disk, root, blocks=0, bad={"photo.jpg": 100_000}):
        dump, _ = await dumped(disk)
    assert [lack.subject for lack in dump.report.incomplete] == ["photo.jpg"]


async def test_holes_stay_holes(root: Path) -> None:
    for name in ("all hole", "-odd\n'name"):
        with (root / name).open("wb") as file:
            file.truncate(300 << 20)
    (root / "page.php").write_bytes(b"x" * 5000)
    dump, archive = await dumped(root)
    assert codes(dump.report) == []
    assert len(archive) < 1 << 20


@needs_root
async def test_exclusions_bound_the_search_for_files_without_blocks(root: Path, disk: Path) -> None:
    """A mounted folder that is left out neither costs the holes of the rest nor is named as mounted."""
    source = disk.parent / "source"
    source.mkdir()
    (source / "photo.jpg").write_bytes(os.urandom(5000))
    (root / "wp-content" / "uploads [1]").mkdir(parents=True)
    with (root / "all hole").open("wb") as file:
        file.truncate(300 << 20)
    with odd_disk(root / "wp-content" / "uploads [1]", source, blocks=0):
        dump, archive = await dumped(root, "/wp-content/upl*")
        assert codes(dump.report) == []
        assert dump.report.facts["mounts"] == []
        assert len(archive) < 1 << 20
        dump, archive = await dumped(root, "unrelated*")
    assert content(archive, "./wp-content/uploads [1]/photo.jpg") == (source / "photo.jpg").read_bytes()
    assert [(w.code, w.subject) for w in dump.report.warnings] == [("mount_included", "wp-content/uploads [1]")]
    assert dump.report.facts["mounts"] == ["wp-content/uploads [1]"]
    assert not dump.report.incomplete


@needs_root
async def test_bind_mounts_are_named_for_every_tar(root: Path, busybox_tools: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "x").write_text("x")
    (root / "inner").mkdir()
    with ExitStack() as stack:
        subprocess.run(["mount", "--bind", str(tmp_path / "shared"), str(root / "inner")], check=True)
        stack.callback(subprocess.run, ["umount", str(root / "inner")], check=True)
        for tools in (None, busybox_tools):
            dump, archive = await dumped(root, tools=tools)
            assert "./inner/x" in members(archive)
            assert dump.report.facts["mounts"] == ["inner"]
            assert ("mount_included", "inner") in [(w.code, w.subject) for w in dump.report.warnings]


def deep(root: Path, length: int, leaf: str) -> str:
    """A file whose path below `root` has so many bytes; its name ends in `leaf`. Returns its path."""
    folder, made = os.open(root, os.O_RDONLY), ""
    while length - len(made) > 230:
        name = "d" * 199
        with_slash = f"{name}/"
        if not os.path.exists(f"/proc/self/fd/{folder}/{name}"):
            os.mkdir(name, dir_fd=folder)
        child = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder, made = child, made + with_slash
    name = "f" * (length - len(made) - len(leaf)) + leaf
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder))
    if os.geteuid() == 0:
        os.chown(name, SITE_UID, SITE_UID, dir_fd=folder)
    os.close(folder)
    return made + name


@pytest.mark.parametrize("leaf", ["", " ", "\n", "*[a]?\\"])
async def test_paths_that_cannot_be_restored_are_left_out_and_named(root: Path, leaf: str) -> None:
    most = longest(str(root))
    (root / "index.html").write_text("old")
    kept = deep(root, most, leaf)
    lost = [deep(root, most + 1, leaf), deep(root, 4200, leaf)]
    owned(root)
    dump, archive = await dumped(root)
    found = members(archive)
    assert f"./{kept}" in found
    assert not found.keys() & {f"./{path}" for path in lost}
    assert [lack.code for lack in dump.report.incomplete] == ["path_too_long"] * 2
    lengths = {int(lack.message.split(" bytes")[0].rpartition(" ")[2]) for lack in dump.report.incomplete}
    assert most + 1 in lengths
    assert most < max(lengths) < 4200, "a folder is named, not all that is in it"
    assert all(len(str(lack.subject)) < 400 for lack in dump.report.incomplete)
    subprocess.run(["rm", "-rf", "--", *[str(path) for path in root.iterdir()]], check=True)
    component = FilesComponent(StandaloneDeployment(), FilesTarget(str(root), OWNER))
    for clear in (True, False):
        await component.restore(from_bytes(archive), Context(f"op{clear}", clear=clear).context, len(archive))
    assert (root / "index.html").read_text() == "old"
    assert (root / kept).exists()


async def test_exclusions_are_recorded(root: Path, busybox_tools: Path) -> None:
    (root / "cache").mkdir()
    for number in range(5):
        (root / "cache" / str(number)).write_text("x")
    for name in ("a.log", "b.log", "index.html", f"{STAGING_PREFIX}old"):
        (root / name).write_text("x")
    dump, archive = await dumped(root, "/cache/", "*.log")
    assert dump.report.facts["exclusions"] == ["/cache/", "*.log"]
    assert dump.report.facts["left_out"] == 3, "a folder is one"
    assert members(archive).keys() == {".", "./index.html"}
    dump, archive = await dumped(root, "/cache/", tools=busybox_tools)
    assert "./cache/1" in members(archive)
    assert dump.report.facts["exclusions"] == [], "they were not used"


@needs_root
async def test_a_file_system_without_attributes_does_not_make_a_backup_partial(root: Path, disk: Path) -> None:
    (root / "index.html").write_text("hello")
    with odd_disk(disk, root):
        dump, _ = await dumped(disk)
    assert codes(dump.report) == []


@needs_root
async def test_busybox_names_the_file_that_it_ends_at(root: Path, disk: Path, busybox_tools: Path) -> None:
    (root / "photo.jpg").write_bytes(os.urandom(300_000))
    with odd_disk(disk, root, bad={"photo.jpg": 100_000}):
        dump = await FilesComponent(
            StandaloneDeployment(str(busybox_tools)), FilesTarget(str(disk), OWNER)
        ).dump()  # fmt: skip
        with pytest.raises(DumpIncomplete, match=r"cut in photo.jpg .*Input/output error"):
            await collect(dump)


def test_what_busybox_cannot_name_to_the_system_is_missing() -> None:
    report = Report()
    assert judge_stderr(
        f"tar: ./{'d' * 5000}: File name too long\ntar: error exit delayed from previous errors", report
    )
    assert [(lack.code, lack.message) for lack in report.incomplete] == [("unreadable", "File name too long")]
    assert len(str(report.incomplete[0].subject)) < 400


def test_more_complaints_than_are_kept() -> None:
    line = "tar: ./some/folder/{}: Cannot open: Permission denied\n"
    said = "".join(line.format(number) for number in range(30_000))[: MAX_STDERR + 100]
    report = Report()
    assert judge_stderr(said, report)
    assert report.incomplete[0].message.startswith("tar complained of more files")
    assert not report.warnings


@pytest.fixture
def busybox_tools() -> Iterator[Path]:
    """A search path on which tar is busybox's; outside tmp_path, which other users cannot enter."""
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder)
        tools.chmod(0o755)
        for tool in ("tar", "rm", "sh", "cat"):
            (tools / tool).symlink_to("/bin/busybox")
        yield tools
