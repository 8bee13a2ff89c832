"""Every layout of a cPanel backup gives the same inventory."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from app.deployments.base import User
from app.errors import FormatAmbiguous, FormatUnknown, InvalidRequest
from app.external.inventory import Inventory
from app.external.parser import as_json
from app.external.tree import TreeTar
from tests.external.conftest import Reading, parsed, streamed
from tests.external.cpanel_account import MAIN, USER, make_account, nest_home, pack

GOLDEN = Path(__file__).with_name("cpanel.golden.json")


def facts(inventory: Inventory) -> dict[str, object]:
    """What does not hang on how the account was packed."""
    found = json.dumps(as_json(inventory)).replace(f"cpmove-{USER}/", "")
    return dict(json.loads(found))


@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zst", "zip"])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_every_container_and_layout(tmp_path: Path, read: Reading, kind: str, wrapped: bool) -> None:
    assert facts(await read(pack(make_account(tmp_path), kind, wrapped=wrapped))) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listed-incremental=/tmp/none", "--level=0",), ("--format=gnu",), ("--format=posix",), ("--format=ustar",),
        ("--transform=s,^,./,",), ("--sparse",), ("--format=posix", "--sparse", "--sparse-version=1.0"),
    ],
)  # fmt: skip
async def test_every_kind_of_tar(tmp_path: Path, read: Reading, arguments: tuple[str, ...]) -> None:
    given = tuple(argument.replace("/tmp/none", str(tmp_path / "snapshot")) for argument in arguments)
    assert facts(await read(pack(make_account(tmp_path), "gz", arguments=given))) == json.loads(GOLDEN.read_text())


async def test_a_home_in_an_archive_of_its_own(tmp_path: Path, read: Reading) -> None:
    top = make_account(tmp_path)
    nest_home(top)
    found = facts(await read(pack(top, "gz")))
    assert found.pop("reason") == f"userdata/main and cp/{USER}"
    golden = json.loads(GOLDEN.read_text())
    golden.pop("reason")
    assert found == golden


async def test_the_simplified_layout(tmp_path: Path, read: Reading) -> None:
    full = make_account(tmp_path / "full")
    top = tmp_path / "simple"
    (top / "mysql").mkdir(parents=True)
    subprocess.run(["tar", "-cf", str(top / "homedir.tar"), "-C", str(full / "homedir"), "public_html"], check=True)
    shutil.copy(full / f"mysql/{USER}_shop.sql", top / "mysql/shop.sql")
    shutil.copytree(full / f"homedir/mail/{MAIN}/info", top / f"mail/info@{MAIN}")
    archive = pack(top, "tar", wrapped=False)
    with pytest.raises(InvalidRequest, match="name it in the request"):
        await read(archive)
    shutil.rmtree(tmp_path / f"staging-{archive.name}")
    found = await read(archive, domain=MAIN)
    assert (found.format, found.reason) == ("cpanel", "homedir.tar")
    [domain] = found.domains
    assert (domain.name, domain.document_root, domain.files) == (MAIN, "homedir/public_html", 22)
    assert [database.name for database in domain.databases] == ["shop"]
    assert [(box.address, box.messages) for box in domain.mailboxes] == [(f"info@{MAIN}", 7)]


async def test_the_lists_of_older_archives(tmp_path: Path, read: Reading) -> None:
    top = make_account(tmp_path)
    shutil.rmtree(top / "userdata")
    (top / "addons").write_text(f"addon.example.org=addon_{MAIN}\n")
    (top / "pds").write_text("parked.example.net\n*.bad\n")
    (top / "sds").write_text(f"addon_{MAIN}\nblog_{MAIN}\n")
    (top / "sds2").write_text(f"addon_{MAIN}=public_html/addon\nblog_{MAIN}=blog_root\nevil_{MAIN}=../../etc\n")
    found = facts(await read(pack(top, "gz")))
    golden = json.loads(GOLDEN.read_text())
    assert found.pop("reason") == "homedir and version"
    evil = found["domains"].pop(3)  # type: ignore[attr-defined]
    assert (evil["name"], evil["document_root"]) == (f"evil.{MAIN}", None)
    golden.pop("reason")
    assert found == golden


async def test_document_roots_from_the_cache(tmp_path: Path, read: Reading) -> None:
    top = make_account(tmp_path)
    cache = {}
    for name, folder in (
        (MAIN, "public_html"),
        ("addon.example.org", "public_html/addon"),
        (f"blog.{MAIN}", "blog_root"),
    ):
        cache[name] = [USER, "root", "main", MAIN, f"/home/{USER}/{folder}"]
    for path in (top / "userdata").iterdir():
        if path.name != "main":
            path.unlink()
    (top / "userdata/cache.json").write_text(json.dumps(cache))
    assert facts(await read(pack(top, "gz"))) == json.loads(GOLDEN.read_text())
    (top / "userdata/cache.json").write_text("[" * 100_000)
    shutil.rmtree(tmp_path / f"staging-cpmove-{USER}.tar.gz")
    broken = await read(pack(top, "gz"))
    assert any("cache.json cannot be read" in warning for warning in broken.warnings)


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_home_alone(tmp_path: Path, read: Reading, wrapped: bool) -> None:
    home = make_account(tmp_path) / "homedir"
    (home / ".cpanel/datastore").mkdir()
    (home / ".cpanel/datastore/x").write_text("x")
    found = await read(pack(home, "gz", wrapped=wrapped), domain=MAIN)
    assert (found.format, found.reason) == ("cpanel", "a home alone, with .cpanel/datastore")
    [domain] = found.domains
    assert domain.document_root is not None
    assert (domain.document_root.removeprefix("homedir/"), domain.files) == ("public_html", 22)
    assert [(box.address, box.messages) for box in domain.mailboxes] == [(f"info@{MAIN}", 7), (f"empty@{MAIN}", 0)]


async def test_zipped_and_gzipped_dumps_and_mdbox(tmp_path: Path, read: Reading) -> None:
    top = make_account(tmp_path)
    subprocess.run(["zip", "-qj", f"{USER}_shop.sql.zip", f"{USER}_shop.sql"], cwd=top / "mysql", check=True)
    (top / f"mysql/{USER}_shop.sql").rename(top / f"mysql/{USER}_blog.sql")
    subprocess.run(["gzip", f"{USER}_blog.sql"], cwd=top / "mysql", check=True)
    (top / "homedir/mail/mailbox_format.cpanel").write_text("mdbox\n")
    found = await read(pack(top, "gz"))
    assert [database.name for database in found.domains[0].databases] == [f"{USER}_blog", f"{USER}_shop"]
    assert {box.format for box in found.domains[0].mailboxes} == {"mdbox"}


async def test_files_and_mail_come_out_as_they_were(tmp_path: Path) -> None:
    top = make_account(tmp_path)
    with (top / "homedir/public_html/sparse").open("wb") as file:
        file.write(b"start")
        file.seek(3_000_000)
        file.write(b"end")
    (top / b"homedir/public_html/latin-\xe9".decode("utf-8", "surrogateescape")).write_text("x")
    for arguments in (("--sparse", "--format=posix"), ("--sparse", "--format=gnu")):
        archive = pack(top, "gz", arguments=arguments)
        folder = tmp_path / f"staging{len(arguments[1])}"
        async with parsed(folder, streamed(archive)) as parser:
            inventory = parser.read(None, None)
            main = inventory.domains[0]
            assert main.document_root is not None
            tree = TreeTar(parser.staged, User(33, 33))
            files = b"".join(tree.files(main))
            mail = b"".join(TreeTar(parser.staged, User(33, 33)).mail(main.mailboxes))
        out = tmp_path / f"out{arguments[1]}"
        out.mkdir()
        subprocess.run(["tar", "-xf", "-", "--no-same-owner"], input=files, cwd=out, check=True)
        expected = top / "homedir/public_html"
        shutil.rmtree(out / "addon", ignore_errors=True)
        subprocess.run(["diff", "-r", "--no-dereference", "-x", "addon", str(expected), str(out)], check=True)
        assert tree.warnings == []
        with tarfile.open(fileobj=io.BytesIO(mail)) as found:
            assert {member.uid for member in found} == {33}
            packed = found.extractfile(f"./info@{MAIN}/new/90.host,S=9")
            linked = found.extractfile(f"./info@{MAIN}/.Sent/cur/91.host:2,S")
            assert packed is not None
            assert linked is not None
            assert packed.read() == b"was gzipped\n"
            assert linked.read() == b"message 0\n" * 3
            names = found.getnames()
        assert f"./{USER}@{MAIN}/cur/7.own:2,S" in names
        assert not any("dovecot" in name or "cyrus" in name for name in names)


async def test_other_things_are_told_apart(tmp_path: Path, read: Reading) -> None:
    top = tmp_path / "site"
    top.mkdir()
    for name in ("index.html", "wp-config.php"):
        (top / name).write_text("x")
    with pytest.raises(FormatUnknown, match="name the format in the request"):
        await read(pack(top, "gz", wrapped=False))


async def test_a_format_that_is_named_decides(tmp_path: Path, read: Reading) -> None:
    top = make_account(tmp_path)
    (top / f"{MAIN}_virtualmin").write_text("dom=x\n")
    (top / f"{MAIN}_dns").write_text("zone\n")
    archive = pack(top, "gz")
    with pytest.raises(FormatAmbiguous, match=r"cpanel .*virtualmin .*Name the format"):
        await read(archive)
    shutil.rmtree(tmp_path / f"staging-{archive.name}")
    found = await read(archive, format="cpanel")
    assert (found.reason, found.domains[0].files) == ("named in the request", 21)
