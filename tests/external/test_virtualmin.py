"""Every layout of a Virtualmin backup gives the same inventory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.errors import ArchiveEncrypted, FormatAmbiguous, FormatUnsupported, InvalidRequest
from app.external.inventory import ForeignDomain, Inventory
from app.external.parser import as_json
from tests.external import virtualmin_domain as made
from tests.external.conftest import Reading, parsed, streamed
from tests.external.cpanel_account import MAIN, USER, make_account, pack
from tests.external.virtualmin_domain import ALIAS, DATABASE, OTHER, SECRETS, SUB

KINDS = ["tar.gz", "tar.bz2", "tar", "zip", "tar.zst", "tar.xz"]


def facts(found: ForeignDomain) -> dict[str, Any]:
    return {
        "name": found.name, "kind": found.kind, "files": (found.files, found.bytes),
        "databases": [(d.engine, d.name, d.format) for d in found.databases],
        "mail": sorted((box.address, box.messages, box.quota) for box in found.mailboxes),
    }  # fmt: skip


WHOLE = {
    "name": MAIN, "kind": "main", "files": (21, 20209), "databases": [("mysql", DATABASE, "sql")],
    "mail": [(f"empty@{MAIN}", 0, None), (f"info@{MAIN}", 7, 1 << 20), (f"{USER}@{MAIN}", 1, None)],
}  # fmt: skip
LISTED = {
    "cron": [f"{MAIN}: 1 lines"], "dns": [MAIN], "web": [MAIN], "certificates": [MAIN],
    "aliases": [f"{MAIN}: 1 lines"],
}  # fmt: skip


def check_whole(found: Inventory) -> None:
    [domain] = found.domains
    assert facts(domain) == WHOLE
    assert (found.listed, found.must_reset, found.warnings) == (LISTED, [f"empty@{MAIN}"], [])
    assert not [secret for secret in SECRETS if secret in json.dumps(as_json(found))]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_home_format(tmp_path: Path, read: Reading, kind: str) -> None:
    found = await read(made.home_format(tmp_path, kind))
    assert (found.format, found.reason) == ("virtualmin", f".backup/{MAIN}_virtualmin")
    check_whole(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("directory", ["_dir.tar", "_dir", "_dir.zip"])
async def test_the_directory_format(tmp_path: Path, read: Reading, kind: str, directory: str) -> None:
    found = await read(made.directory_format(tmp_path, kind, directory=directory))
    assert (found.format, found.reason) == ("virtualmin", f"{MAIN}_virtualmin")
    check_whole(found)


@pytest.mark.parametrize("kind", KINDS)
async def test_several_domains_in_one_file(tmp_path: Path, read: Reading, kind: str) -> None:
    found = await read(made.single_file(tmp_path, kind))
    by_name = {domain.name: domain for domain in found.domains}
    assert {name: (domain.kind, domain.parent) for name, domain in by_name.items()} == {
        MAIN: ("main", None), OTHER: ("main", None), ALIAS: ("alias", MAIN), SUB: ("sub", MAIN),
    }  # fmt: skip
    assert found.domains[0].kind == "main"
    for name in (MAIN, SUB, OTHER):
        assert by_name[name].files == len(name) + 1, name
    assert by_name[ALIAS].document_root is None
    assert facts(by_name[OTHER])["mail"] == [
        (f"empty@{OTHER}", 0, None), (f"info@{OTHER}", 7, 1 << 20), (f"other@{OTHER}", 1, None)
    ]  # fmt: skip
    assert found.warnings == ["The server's own settings (virtualmin_…) are in the archive; they are left out"]
    assert found.listed["dns"] == [MAIN, SUB]


async def test_incremental_archives_are_read_to_their_last_member(tmp_path: Path, read: Reading) -> None:
    """Directories of type D, with times where ustar has a name's prefix; the last member is a deep one."""
    home = made.make_home(tmp_path / "home")
    deep = home / "public_html/zz" / "/".join(["deep"] * 30)
    deep.mkdir(parents=True)
    (deep / "last.txt").write_text("last")
    archive = made.home_format(tmp_path, "tar")
    content = archive.read_bytes()
    assert any(content[at + 156 : at + 157] == b"D" for at in range(0, len(content), 512))
    async with parsed(tmp_path / "staging", streamed(archive)) as parser:
        [domain] = parser.read(None, None).domains
        item = parser.staged.get("public_html/zz/" + "/".join(["deep"] * 30) + "/last.txt")
        assert item is not None
        assert b"".join(parser.staged.read(item)) == b"last"
    assert domain.files == 22


async def test_a_differential_backup_says_so(tmp_path: Path, read: Reading) -> None:
    home = made.make_home(tmp_path / "home")
    (home / ".incremental").write_text("1")
    found = await read(made.home_format(tmp_path))
    assert found.domains[0].incomplete
    assert any("differential" in warning and "import that one first" in warning for warning in found.warnings)


async def test_mail_outside_the_homes(tmp_path: Path, read: Reading) -> None:
    found = await read(made.mail_outside(tmp_path))
    boxes = {box.address: (box.format, box.messages) for box in found.domains[0].mailboxes}
    assert boxes == {
        f"{USER}@{MAIN}": ("maildir", 1), f"info@{MAIN}": ("maildir", 7), f"empty@{MAIN}": ("maildir", 0),
        f"old@{MAIN}": ("mbox", 3),
    }  # fmt: skip


async def test_a_sub_server_alone_says_whose_it_is_not(tmp_path: Path, read: Reading) -> None:
    found = await read(made.home_format(tmp_path, found=made.features(settings="parent=77\n")))
    assert (found.domains[0].kind, found.domains[0].parent) == ("sub", None)
    assert any("an archive of its own" in warning for warning in found.warnings)


@pytest.mark.parametrize("marker", ["virtualmin.info", "domain.info"])
async def test_archives_made_by_hand(tmp_path: Path, read: Reading, marker: str) -> None:
    found = await read(made.made_by_hand(tmp_path, marker))
    [domain] = found.domains
    assert facts(domain) == {**WHOLE, "mail": [(f"info@{MAIN}", 7, None)]}
    assert found.reason == marker


async def test_archives_made_by_hand_that_name_no_domain(tmp_path: Path, read: Reading) -> None:
    top = tmp_path / "made"
    (top / "public_html").mkdir(parents=True)
    (top / "public_html/index.html").write_text("x")
    (top / "domain.info").write_text("nothing\n")
    archive = made.archive(top, tmp_path / "x.tar.gz")
    with pytest.raises(InvalidRequest, match="name it in the request"):
        await read(archive)
    found = await read(archive.rename(tmp_path / "y.tar.gz"), domain=MAIN)
    assert [(domain.name, domain.files) for domain in found.domains] == [(MAIN, 1)]


async def test_settings_and_notes_are_answered(tmp_path: Path, read: Reading) -> None:
    with pytest.raises(FormatUnsupported, match="settings of Virtualmin"):
        await read(made.settings_only(tmp_path))
    notes = {
        "x.info": b"HASH,VAL%2Cshop.example.com,HASH%2CVAL%252Cdom%2CVAL%252Cshop",
        "x.dom": b"id=1\nuser=x\ndom=shop.example.com\n",
    }
    for name, content in notes.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatUnsupported, match=r"\.info or \.dom"):
            await read(tmp_path / name)


async def test_an_encrypted_one_under_the_same_name(tmp_path: Path, read: Reading) -> None:
    archive = made.home_format(tmp_path)
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    encrypted = tmp_path / "encrypted" / archive.name
    encrypted.parent.mkdir()
    command = [
        "gpg", "--homedir", str(home), "--batch", "--passphrase", "x", "--pinentry-mode", "loopback", "--symmetric",
        "-o", str(encrypted), str(archive),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=True)
    with pytest.raises(ArchiveEncrypted, match="decrypt it with gpg"):
        await read(encrypted)


async def test_a_home_that_looks_like_another_panel(tmp_path: Path, read: Reading) -> None:
    """What the site's owner can write does not decide; `.backup` is not the owner's."""
    home = made.make_home(tmp_path / "home")
    for name, text in {"cp/x": "DNS=evil.example.com\n", "userdata/main": "main_domain: evil.example.com\n",
                       "dump.xml": "<migration-dump/>"}.items():  # fmt: skip
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    check_whole(await read(made.home_format(tmp_path)))


async def test_two_panels_without_a_decision(tmp_path: Path, read: Reading) -> None:
    top = make_account(tmp_path)
    made.write_features(top, MAIN, made.features())
    with pytest.raises(FormatAmbiguous, match=r"cpanel .*virtualmin .*Name the format"):
        await read(pack(top, "gz"))


async def test_password_hashes(tmp_path: Path) -> None:
    archive = made.home_format(tmp_path)
    async with parsed(tmp_path / "staging", streamed(archive)) as parser:
        inventory = parser.read(None, None)
        assert parser.password_hashes(inventory) == {f"{USER}@{MAIN}": "$6$own$own", f"info@{MAIN}": "$6$abc$def"}


async def test_a_damaged_home_concerns_its_own_domain(tmp_path: Path, read: Reading) -> None:
    made.single_file(tmp_path)
    nested = tmp_path / f"features/{OTHER}_dir.tar"
    nested.write_bytes(nested.read_bytes()[:5000])
    found = await read(made.archive(tmp_path / "features", tmp_path / "again.tar.gz"))
    by_name = {domain.name: domain for domain in found.domains}
    problem = by_name[OTHER].files_problem
    assert problem is not None
    assert (problem[0], "cut" in problem[1]) == ("archive_invalid", True)
    assert by_name[OTHER].mail_problem == problem, "its mail was in there too"
    assert (by_name[MAIN].files_problem, by_name[MAIN].files) == (None, len(MAIN) + 1)
