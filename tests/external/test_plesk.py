"""Every layout of a Plesk backup gives the same inventory."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.external.inventory import ForeignDomain, Inventory
from app.external.parser import as_json
from tests.external import plesk_dump as made
from tests.external.conftest import Reading, parsed, streamed
from tests.external.cpanel_account import MAIN
from tests.external.plesk_dump import ADDON, ALIAS, CIPHER, DATABASE, HASH, PLAIN_PASSWORD, SUB, TIME, USER

MAIL = [(f"empty@{MAIN}", 0, None), (f"info@{MAIN}", 7, 1 << 20), (f"plain@{MAIN}", 0, None)]


def facts(found: ForeignDomain) -> dict[str, Any]:
    return {
        "kind": found.kind, "files": found.files, "databases": [(d.engine, d.name, d.users) for d in found.databases],
        "mail": sorted((box.address, box.messages, box.quota) for box in found.mailboxes),
    }  # fmt: skip


def check_whole(found: Inventory) -> None:
    by_name = {domain.name: domain for domain in found.domains}
    assert {name: facts(domain) for name, domain in by_name.items()} == {
        MAIN: {"kind": "main", "files": 22, "databases": [("mysql", DATABASE, [USER])], "mail": MAIL},
        ADDON: {"kind": "addon", "files": 1, "databases": [], "mail": []},
        SUB: {"kind": "sub", "files": 1, "databases": [], "mail": []},
        ALIAS: {"kind": "alias", "files": 0, "databases": [], "mail": []},
    }
    assert found.domains[0].name == MAIN
    assert sorted(found.must_reset) == [
        f"database user {USER}", f"info@{MAIN}", f"plain@{MAIN}", "system user shopuser"
    ]  # fmt: skip
    assert found.listed == {
        "aliases": [f"sales@{MAIN}: info@{MAIN}"], "dns": [MAIN], "certificates": [f"{MAIN}: Main"]
    }  # fmt: skip
    assert found.warnings == []
    assert not [secret for secret in (CIPHER, HASH, PLAIN_PASSWORD) if secret in json.dumps(as_json(found))]


@pytest.mark.parametrize("kind", ["tgz", "tzst", "zip", "tar"])
@pytest.mark.parametrize("outer", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_subscription(tmp_path: Path, read: Reading, kind: str, outer: str, wrapped: bool) -> None:
    found = await read(made.subscription(tmp_path, kind, outer, wrapped=wrapped))
    assert (found.format, found.reason) == ("plesk", f"backup_info_{TIME}.xml with the root element migration-dump")
    check_whole(found)


@pytest.mark.parametrize("outer", ["tar", "tar.gz", "tar.zst", "zip"])
async def test_a_server(tmp_path: Path, read: Reading, outer: str) -> None:
    names = [f"site{number}.example.com" for number in range(5)]
    found = await read(made.server(tmp_path, names, outer))
    by_name = {domain.name: domain for domain in found.domains}
    for number, name in enumerate(names):
        assert by_name[name].files == 5 + number, name
        assert facts(by_name[name])["mail"][1] == (f"info@{name}", 7, 1 << 20)
        assert [database.problem for database in by_name[name].databases] == [None]
        assert by_name[f"x{number}.{ADDON}"].files == 1
    assert len(by_name) == 20
    assert found.warnings == []


async def test_domains_that_are_named_and_not_there(tmp_path: Path, read: Reading) -> None:
    made.server(tmp_path, ["site0.example.com", "site1.example.com"])
    top = tmp_path / "server"
    shutil.rmtree(top / "clients")
    (top / ".discovered/x").mkdir(parents=True)
    (top / ".discovered/x/object_index").write_text("domain\tindexed.example.com\t-\n\t\t\nsite\t../../x\t\n")
    found = await read(made.archive(top, tmp_path / "again.tar"))
    assert [warning.partition(":")[0] for warning in found.warnings] == ["site1.example.com", "indexed.example.com"]
    assert "site0.example.com" in {domain.name for domain in found.domains}


async def test_a_domain_that_only_the_index_knows_the_place_of(tmp_path: Path, read: Reading) -> None:
    top = tmp_path / "dump"
    place = top / "elsewhere/abc"
    element = made.Subscription(place).write()
    (place / f"backup_info_{TIME}.xml").write_text(made.dump(element))
    (top / f"backup_info_{TIME}.xml").write_text(made.dump(f'<domain-info name="{MAIN}"/>'))
    (top / ".discovered/x").mkdir(parents=True)
    (top / ".discovered/x/object_index").write_text(f"domain\tguid\t{MAIN}\telsewhere/abc/backup_info_{TIME}.xml\n")
    check_whole(await read(made.archive(top, tmp_path / "x.tar")))


async def test_all_of_a_server_in_one_description(tmp_path: Path, read: Reading) -> None:
    """Older ones: paths are relative to the archive's root."""
    top = tmp_path / "dump"
    element = made.Subscription(top / f"clients/c/domains/{MAIN}").write()
    for name in ("domainmail", "user-data", "apache-files"):
        element = element.replace(f'<cid type="{name}">', f'<cid type="{name}" path="clients/c/domains/{MAIN}">')
    element = element.replace('path="databases', f'path="clients/c/domains/{MAIN}/databases')
    (top / f"backup_info_{TIME}.xml").write_text(made.dump(f'<client name="c"><domains>{element}</domains></client>'))
    check_whole(await read(made.archive(top, tmp_path / "x.tar.gz")))


@pytest.mark.parametrize("nested", [True, False])
async def test_the_names_of_plesk_9_to_11(tmp_path: Path, read: Reading, nested: bool) -> None:
    found = await read(made.old_names(tmp_path, nested=nested))
    by_name = {domain.name: facts(domain) for domain in found.domains}
    assert by_name == {
        MAIN: {"kind": "main", "files": 22, "databases": [("mysql", DATABASE, [])],
               "mail": [(f"info@{MAIN}", 7, 1 << 20)]},
        SUB: {"kind": "sub", "files": 1, "databases": [], "mail": []},
    }  # fmt: skip
    assert found.warnings == []


async def test_programs_beside_the_site_are_not_put_into_it(tmp_path: Path, read: Reading) -> None:
    found = await read(made.old_names(tmp_path, cgi_mode="webspace"))
    assert found.domains[0].files == 21
    assert any("cgi-bin" in warning for warning in found.warnings)


async def test_an_offset_is_where_the_content_begins(tmp_path: Path, read: Reading) -> None:
    top, work = tmp_path / "dump", tmp_path / "work"
    made.make_vhost(work / "var/www/vhosts/shop")
    made.pack_content(work, top / "content/user-data", "tgz")
    content = made.cid("user-data", "user-data.tgz", "content", "/var/www/vhosts/shop")
    element = f'<domain name="{MAIN}"><phosting www-root="httpdocs"><content>{content}</content></phosting></domain>'
    (top / f"backup_info_{TIME}.xml").write_text(made.dump(element))
    found = await read(made.archive(top, tmp_path / "x.tar"))
    assert (found.domains[0].files, found.warnings) == (21, [])


async def test_an_incremental_backup_alone(tmp_path: Path, read: Reading) -> None:
    found = await read(made.incremental(tmp_path, with_full=False))
    assert (found.domains[0].incomplete, found.domains[0].files) == (True, 1)
    assert any("incremental" in warning and TIME in warning for warning in found.warnings)


async def test_a_full_backup_is_taken_before_incremental_ones(tmp_path: Path, read: Reading) -> None:
    found = await read(made.incremental(tmp_path, with_full=True))
    assert (found.domains[0].incomplete, found.domains[0].files) == (False, 22)
    assert found.listed["other_backups"] == [f"backup_info_{TIME}_{made.LATER}.xml"]


@pytest.mark.parametrize("marker", ["dump.xml", "psa_domains"])
async def test_archives_made_by_hand(tmp_path: Path, read: Reading, marker: str) -> None:
    found = await read(made.made_by_hand(tmp_path, marker))
    assert found.reason == marker
    [domain] = found.domains
    assert facts(domain) == {
        "kind": "main", "files": 21, "databases": [("mysql", DATABASE, [])], "mail": [(f"info@{MAIN}", 7, None)]
    }  # fmt: skip


async def test_windows(tmp_path: Path, read: Reading) -> None:
    """Zip outside and inside, with backslashes in names and paths; a database of Microsoft's."""
    made.subscription(tmp_path, "zip", "zip")
    top = tmp_path / "dump"
    path = top / f"backup_info_{TIME}.xml"
    text = path.read_text().replace(f"databases/{DATABASE}_1", f"databases\\{DATABASE}_1")
    path.write_text(text.replace("</databases>", '<database name="ms" type="mssql"/></databases>'))
    for inner in top.glob("backup_*.zip"):
        backslashed(inner)
    plain = made.archive(top, tmp_path / "windows.zip")
    found = await read(backslashed(plain))
    assert found.warnings.pop() == "ms: a mssql database cannot be imported; left out"
    check_whole(found)


def backslashed(path: Path) -> Path:
    """A zip as some tools on Windows write it."""
    with zipfile.ZipFile(path) as source:
        members = [(info, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for info, data in members:
            made_info = zipfile.ZipInfo(info.filename.replace("/", "\\"), info.date_time)
            made_info.create_system = 0
            target.writestr(made_info, data)
    return path


async def test_content_that_is_not_there_or_damaged_concerns_its_own_part(tmp_path: Path, read: Reading) -> None:
    made.subscription(tmp_path)
    top = tmp_path / "dump"
    (top / f"backup_domainmail_{TIME}.tgz").unlink()
    dump = top / f"databases/{DATABASE}_1/backup_sqldump_{TIME}.tgz"
    dump.write_bytes(dump.read_bytes()[:-5])
    found = await read(made.archive(top, tmp_path / "again.tar"))
    [main] = [domain for domain in found.domains if domain.name == MAIN]
    assert (main.files_problem, main.files) == (None, 22)
    assert main.mail_problem is not None
    assert "is not in the archive" in main.mail_problem[1]
    assert main.databases[0].problem is not None
    assert "is cut" in main.databases[0].problem[1]


async def test_password_hashes(tmp_path: Path) -> None:
    """Hashes only: neither what is encrypted for another server nor plain words."""
    archive = made.subscription(tmp_path)
    async with parsed(tmp_path / "staging", streamed(archive)) as parser:
        inventory = parser.read(None, None)
        assert parser.password_hashes(inventory) == {f"empty@{MAIN}": HASH}
