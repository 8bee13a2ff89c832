"""Hostile and broken archives of Virtualmin and Plesk: each with what must happen."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import (
    ArchiveInvalid,
    FormatUnknown,
    FormatUnsupported,
    ImportLimitExceeded,
    InvalidRequest,
    LiberuError,
)
from app.external.parser import as_json
from tests.external.plesk_dump import CIPHER, TIME, cid, dump
from tests.external.test_hostile import MAIN, encrypted_zip, hard, link, place, restored

__all__ = ["place"]
XML = f"backup_info_{TIME}.xml"
Made = Callable[[], bytes]


def tar(*members: dict[str, Any] | tuple[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as made:
        for given in members:
            facts: dict[str, Any] = {"name": given[0], "data": given[1]} if isinstance(given, tuple) else given
            data = facts.get("data", b"")
            data = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(facts["name"])
            info.size = len(data)
            for key, value in facts.items():
                if key not in ("name", "data"):
                    setattr(info, key, value)
            made.addfile(info, io.BytesIO(data))
    return file.getvalue()


def tgz(*members: dict[str, Any] | tuple[str, bytes | str]) -> bytes:
    return gzip.compress(tar(*members))


def windows(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for written in ("httpdocs\\index.html", name):
            info = zipfile.ZipInfo(written)
            info.create_system = 0
            made.writestr(info, "fine")
    return file.getvalue()


INDEX = ("httpdocs/index.html", "fine")


def plesk(
    *,
    content: str | None = None,
    attributes: str = 'www-root="httpdocs"',
    more: str = "",
    before: str = "",
    data: bytes | None = None,
    members: tuple[Any, ...] = (),
    name: str = MAIN,
    sites: str = "",
) -> bytes:
    """A subscription; `more`: XML in its domain, `before`: next to it, `data`: its user-data.tgz."""
    cids = cid("user-data", "user-data.tgz") if content is None else content
    element = (
        f'<domain name="{name}">{more}<phosting {attributes}><content>{cids}</content>{sites}</phosting></domain>'
    )
    user_data = ("user-data.tgz", tgz(INDEX) if data is None else data)
    return tar((XML, dump(before, element)), user_data, *members)


def mail(*users: str) -> str:
    return (
        f"<mailsystem><mailusers>{''.join(f'<mailuser name={user!r}/>' for user in users)}</mailusers></mailsystem>"
    )


def database(content: str, name: str = "db", type: str = "mysql") -> str:
    return f'<databases><database name="{name}" type="{type}"><content>{content}</content></database></databases>'


SQLDUMP = database(cid("sqldump", "dump.tgz", "databases/db_1"))


def virtualmin(*members: Any, settings: str = "", users: str = "") -> bytes:
    """The home format."""
    text = f"dom={MAIN}\nhome=/home/u\npublic_html_dir=public_html\n{settings}"
    base = [(f".backup/{MAIN}_virtualmin", text), ("public_html/index.html", "fine")]
    if users:
        base.append((f".backup/{MAIN}_mail_users", users))
    return tar(*base, *members)


def directory(home: bytes, **features: bytes | str) -> bytes:
    found = [(f"{MAIN}_{feature}", data) for feature, data in features.items()]
    return tar((f"{MAIN}_virtualmin", f"dom={MAIN}\nhome=/home/u\n"), (f"{MAIN}_dir.tar", home), *found)


LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>'
    "<migration-dump>&c;</migration-dump>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><migration-dump>&a;</migration-dump>'

#: Archives, the error, and the format that is named in the request.
BROKEN: dict[str, tuple[Made, type[LiberuError], str | None]] = {
    "a document type": (lambda: tar((XML, f"<!DOCTYPE x>{dump()}")), ArchiveInvalid, None),
    "a document type, named": (lambda: tar((XML, "<!DOCTYPE x><migration-dump/>")), ArchiveInvalid, "plesk"),
    "a billion laughs": (lambda: tar((XML, LAUGHS)), ArchiveInvalid, None),
    "an entity from outside": (lambda: tar((XML, OUTSIDE)), ArchiveInvalid, None),
    "an entity after the root": (lambda: tar((XML, "<migration-dump>&x;</migration-dump>")), ArchiveInvalid, None),
    "XML that is cut": (lambda: tar((XML, dump("<domain>")[:-30])), ArchiveInvalid, None),
    "XML that is followed by something": (lambda: tar((XML, dump() + "<x/>")), ArchiveInvalid, None),
    "XML that is nested too deep": (lambda: tar((XML, dump("<a>" * 5000))), ImportLimitExceeded, None),
    "XML with a giant tag": (
        lambda: tar((XML, dump("<a " + " ".join(f"a{n}=''" for n in range(60_000)) + "/>"))),
        ImportLimitExceeded, None),
    "XML with too many elements": (lambda: tar((XML, dump("<domain/>" * 310_000))), ImportLimitExceeded, None),
    "XML of another kind": (lambda: tar((XML, "<other/>")), FormatUnknown, None),
    "no XML": (lambda: tar((XML, b"\0\1\2" * 500)), ArchiveInvalid, None),
    "XML in an encoding nobody knows": (
        lambda: tar((XML, '<?xml version="1.0" encoding="x-klingon"?><migration-dump/>')), ArchiveInvalid, None),
    "no domain in it": (lambda: tar((XML, dump())), InvalidRequest, None),
    "a domain that is a path": (lambda: plesk(name="../../etc"), InvalidRequest, None),
    "a bomb inside": (lambda: plesk(data=tgz(("httpdocs/zeros", bytes(90 << 20)))), ImportLimitExceeded, None),
    "archives in archives inside": (
        lambda: plesk(data=gzip.compress(gzip.compress(gzip.compress(tgz(INDEX))))), ImportLimitExceeded, None),
    "more members inside than allowed": (
        lambda: plesk(data=tgz(*((f"httpdocs/{number}", b"") for number in range(2100)))), ImportLimitExceeded, None),
    "a dump that is a bomb": (
        lambda: plesk(more=SQLDUMP, members=(("databases/db_1/dump.tgz", tgz(("x", bytes(90 << 20)))),)),
        ImportLimitExceeded, None),
    "more mailboxes than anybody has": (
        lambda: plesk(more=mail(*(f"u{number}" for number in range(110_000)))), ImportLimitExceeded, None),
    "settings without end": (lambda: virtualmin(settings="x=1\n" * 300_000), ArchiveInvalid, None),
    "users without end": (lambda: virtualmin(users="x" * (17 << 20)), ArchiveInvalid, None),
    "a name that no domain has": (
        lambda: tar(("../x_virtualmin", "dom=x"), ("-rf_virtualmin", "dom=/etc\n"), ("-rf_dns", "x")),
        InvalidRequest, None),
    "settings alone": (lambda: tar(("virtualmin_config", "x=1\n")), FormatUnsupported, None),
    "a note about a backup": (lambda: b"HASH,VAL%2Cx,VAL%2Cy", FormatUnsupported, None),
    "a home that is a bomb": (lambda: directory(tgz(("public_html/0", bytes(90 << 20)))), ImportLimitExceeded, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_or_too_large_is_refused(place: Path, name: str) -> None:
    make, error, format = BROKEN[name]
    with pytest.raises(error) as raised:
        await restored(place, make(), format=format)
    assert raised.value.message
    assert "root:" not in raised.value.message
    assert list((place / "site").iterdir()) == []


ESCAPE = ({"name": "../../canary", "data": b"x"}, {"name": "/tmp/liberu-canary", "data": b"x"})
USER = "u:$6$a$b:1:1:U:{home}:/bin/sh:{address}:0:0\n\n"
PIPE = {"name": "httpdocs/pipe", "type": tarfile.FIFOTYPE}

#: Archives, words of a warning or of a part's problem, and whether the site's files are imported all the same.
HOSTILE: dict[str, tuple[Made, str, bool]] = {
    "content that climbs": (lambda: plesk(content=cid("user-data", "../user-data.tgz")), "not in the archive", False),
    "content by an absolute name": (lambda: plesk(content=cid("user-data", "passwd", "/etc")), "not in", False),
    "content in a folder that climbs": (
        lambda: plesk(content=cid("user-data", "passwd", "../../../../etc")), "not in the archive", False),
    "content by a Windows name": (
        lambda: plesk(content=cid("user-data", "user-data.tgz", "..\\..")), "not in the archive", False),
    "content that is the description": (lambda: plesk(content=cid("user-data", XML)), "no archive", False),
    "content without a name": (lambda: plesk(content=cid("user-data", "")), "not in the archive", False),
    "content that is a link": (
        lambda: plesk(content=cid("user-data", "l.tgz"), members=(link("l.tgz", "/etc/passwd"),)), "not in", False),
    "content that is a hard link": (
        lambda: plesk(content=cid("user-data", "h.tgz"), members=(hard("h.tgz", "user-data.tgz"),)), "not in", False),
    "content that is cut": (lambda: plesk(data=tgz(INDEX)[:-4]), "cut", False),
    "content that is encrypted": (lambda: plesk(data=b"\x85\x01\x0c\x03" + bytes(300)), "encrypted", False),
    "content that is an encrypted zip": (lambda: plesk(data=encrypted_zip()), "encrypted", False),
    "content of Plesk 8": (lambda: plesk(data=b"MIME-Version: 1.0\n\n"), "MIME", False),
    "a document root that climbs": (lambda: plesk(attributes='www-root="../../etc"'), "is not in", False),
    "a document root that is absolute": (lambda: plesk(attributes='www-root="/etc"'), "is not in", False),
    "a document root that is a link": (
        lambda: plesk(data=tgz(link("httpdocs", "/etc"), INDEX)), "no folder in the archive", False),
    "a document root with a NUL": (lambda: plesk(attributes='www-root="http&#9;docs"'), "is not in", False),
    "an offset that climbs": (
        lambda: plesk(content=cid("user-data", "user-data.tgz", "", "../../..")), "", True),
    "members that escape": (lambda: plesk(data=tgz(INDEX, *ESCAPE)), "left out", True),
    "a member behind a link": (
        lambda: plesk(data=tgz(INDEX, link("httpdocs/a", "/tmp"), ("httpdocs/a/liberu-canary", b"x"))),
        "behind", True),
    "a pipe": (lambda: plesk(data=tgz(INDEX, PIPE)), "named pipe", True),
    "a zip with names of Windows that climb": (lambda: plesk(data=windows("..\\..\\canary")), "left out", True),
    "a site that is a path": (lambda: plesk(sites='<site name="../x"/>'), "cannot be a domain", True),
    "a sub-domain that is a path": (lambda: plesk(sites='<subdomain name="../x"/>'), "cannot be a domain", True),
    "a document type in a domain's own": (
        lambda: tar((XML, dump(f'<domain-info name="{MAIN}"/>')), (f"domains/{MAIN}/{XML}", LAUGHS)),
        "document type", False),
    "mailboxes that are paths": (lambda: plesk(more=mail("../x", ".hidden", "a/b", "-rf")), "no mailbox", True),
    "a mailbox twice": (lambda: plesk(more=mail("info", "INFO")), "no mailbox", True),
    "a domain twice": (lambda: plesk(before=f'<domain name="{MAIN}"/>', more=""), "", False),
    "an alias that is a path": (lambda: plesk(more='<domain-alias name="../../x"/>'), "", True),
    "a dump of two files": (
        lambda: plesk(more=SQLDUMP, members=(("databases/db_1/dump.tgz", tgz(("a", "x"), ("b", "y"))),)),
        "2 files", True),
    "a dump of nothing": (
        lambda: plesk(more=SQLDUMP, members=(("databases/db_1/dump.tgz", tgz()),)), "0 files", True),
    "a dump that climbs": (
        lambda: plesk(more=database(cid("sqldump", "dump.tgz", "../../db_1"))), "not in the archive", True),
    "a database of another kind": (
        lambda: plesk(more=database("", type="mssql`; DROP")), "cannot be imported", True),
    "an index of nonsense": (
        lambda: plesk(members=((".discovered/x/object_index", b"domain\t\xff\t\0\n\t\n" + b"site\t" * 100_000),)),
        "", True),
    "an index that points outside": (
        lambda: plesk(members=((".discovered/x/object_index", "domain\tx.com\t../../../etc/x_info_1.xml\n"),)),
        "is named in the backup", True),
    "a public_html_dir that climbs": (lambda: virtualmin(settings="public_html_dir=../../etc\n"), "not in", False),
    "a public_html_dir that is all": (lambda: virtualmin(settings="public_html_dir=.\n"), "is not in", False),
    "a public_html_dir that is the secrets": (
        lambda: virtualmin(settings="public_html_dir=.backup\n"), "is not in the archive", False),
    "a public_html_dir around the secrets": (
        lambda: virtualmin(settings="public_html_dir=public_html/../.backup\n"), "is not in the archive", False),
    "a public_html that is a link": (
        lambda: tar((f".backup/{MAIN}_virtualmin", f"dom={MAIN}\n"), link("public_html", "/etc")), "no f", False),
    "a user whose home is elsewhere": (
        lambda: virtualmin(users=USER.format(home="/etc", address=f"u@{MAIN}")), "", True),
    "a user whose home climbs": (
        lambda: virtualmin(users=USER.format(home="/home/u/../../etc", address=f"u@{MAIN}")), "", True),
    "an address that is a path": (
        lambda: virtualmin(users=USER.format(home="/home/u", address=f"../../x@{MAIN}")), "", True),
    "an address of another domain": (
        lambda: virtualmin(users=USER.format(home="/home/u", address="x@victim.com")), "victim.com", True),
    "an address twice": (
        lambda: virtualmin(users=USER.format(home="/home/u", address=f"u@{MAIN}") * 2), "address too", True),
    "a maildir that is a link": (
        lambda: virtualmin(link("Maildir", "/var/mail"), users=USER.format(home="/home/u", address=f"u@{MAIN}")),
        "", True),
    "mail of all that is damaged": (
        lambda: virtualmin((f".backup/{MAIN}_mail_files", b"no tar at all" * 100),
                           users=USER.format(home="/x", address=f"u@{MAIN}")), "no archive", True),
    "a home that escapes": (
        lambda: directory(tar(("public_html/index.html", "fine"), *ESCAPE)), "left out", True),
    "a home that is cut": (lambda: directory(tar(("public_html/index.html", "fine"))[:900]), "cut", False),
    "a home that is no archive": (lambda: directory(b"hello" * 500), "no archive", False),
    "two homes in one": (
        lambda: virtualmin((".backup/other.example.org_virtualmin", "dom=other.example.org\n")), "", True),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_hostile_is_left_out_and_the_rest_is_imported(place: Path, name: str) -> None:
    make, words, imported = HOSTILE[name]
    canary, planted = place / "canary", Path("/tmp/liberu-canary")
    canary.write_text("untouched")
    inventory, warnings = await restored(place, make())
    main = inventory.domains[0]
    problems = [main.files_problem, main.mail_problem, *(found.problem for found in main.databases)]
    told = [*warnings, *(problem[1] for problem in problems if problem is not None)]
    assert any(words in text for text in told) or not words, told
    site = place / "site"
    found = {path.name for path in site.rglob("*") if path.is_file() and not path.is_symlink()}
    assert found == ({"index.html"} if imported else set())
    assert canary.read_text() == "untouched"
    assert not planted.exists()
    for domain in inventory.domains:
        assert all("/" not in box.address and box.address[0] not in ".-" for box in domain.mailboxes)
        assert "/" not in domain.name
    assert "root:x" not in json.dumps(as_json(inventory))
    assert CIPHER not in json.dumps(as_json(inventory))
