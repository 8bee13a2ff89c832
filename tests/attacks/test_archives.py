"""What the author of a foreign archive wants: the processor, the memory, the disk, another's files, an empty site."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.deployments.base import User
from app.errors import ArchiveInvalid, FormatUnknown, FormatUnsupported, ImportLimitExceeded, LiberuError
from app.external.inventory import Inventory
from app.external.limits import Limits
from app.external.parser import ExternalBackupParser
from app.external.reader import ArchiveReader
from app.external.tree import TreeTar
from tests.external.plesk_dump import TIME, cid, dump
from tests.external.test_hostile import MAIN, ROOT, header, link, tar, zipped

MIB = 1 << 20
DOCROOT = "homedir/public_html/"


def opened(folder: Path, content: bytes, limits: Limits | None = None) -> ExternalBackupParser:
    parser = ExternalBackupParser(folder / "staging", limits or Limits())
    try:
        parser.stage(io.BytesIO(content))
    except BaseException:
        parser.close()
        raise
    return parser


def inventory_of(folder: Path, content: bytes, limits: Limits | None = None) -> Inventory:
    parser = opened(folder, content, limits)
    try:
        return parser.read(None, None)
    finally:
        parser.close()


def extended(kind: bytes, payload: bytes, count: int = 1) -> bytes:
    made = header("x", size=b"%011o\0" % len(payload), kind=kind)
    return (made + payload + bytes(-len(payload) % 512)) * count


def record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def old_sparse(blocks: int) -> bytes:
    """A map that goes on in so many headers."""
    first = bytearray(header("sparse", kind=b"S"))
    first[482] = 1
    first[148:156] = b"        "
    first[148:156] = b"%06o\0 " % sum(first)
    return bytes(first) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * blocks


#: What one byte in a megabyte of upload costs: each of these took minutes, or for ever.
HEADERS: dict[str, Callable[[], bytes]] = {
    "one record of 14 MiB": lambda: extended(b"x", record("comment", b"x" * (14 * MIB))) + tar(),
    "a million records": lambda: extended(b"x", record("k", b"v") * 1_000_000) + tar(),
    "a million records of other names": lambda: (
        extended(b"x", b"".join(record(f"k{number}", b"v") for number in range(500_000))) + tar()
    ),
    "a name of dots and slashes": lambda: extended(b"L", b"./" * (8 * MIB - 10)) + tar(),
    "a name of slashes": lambda: extended(b"L", b"a/" * (8 * MIB - 10)) + tar(),
    "a link of dots and slashes": lambda: extended(b"K", b"./" * (8 * MIB - 10)) + header("x", kind=b"1") + tar(),
    "a map in 30,000 headers": lambda: old_sparse(30_000) + tar(),
    "a map in a record": lambda: (
        extended(b"x", record("GNU.sparse.size", b"1") + record("GNU.sparse.map", b"0," * (7 * MIB) + b"0")) + tar()
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_wants_the_processor(tmp_path: Path, name: str) -> None:
    content = HEADERS[name]()
    began = time.process_time()
    try:
        inventory_of(tmp_path, content)
    except ArchiveInvalid as error:
        assert "larger than" in error.message
    assert time.process_time() - began < 20


def accounts(count: int, text: bytes) -> bytes:
    domains = "".join(f"  - s{number}.{MAIN}\n" for number in range(count))
    main = f"main_domain: {MAIN}\nsub_domains:\n{domains}".encode()
    files = ({"name": f"userdata/s{number}.{MAIN}", "data": text} for number in range(count))
    return tar({"name": "userdata/main", "data": main}, *files)


YAML: dict[str, bytes] = {
    "lists in lists": b"[" * MIB,
    "many small mappings": b"- {a: [b, c]}\n" * 8_000,
    "one long word": b"documentroot: " + b"x" * MIB,
    "aliases": b"a: &a [x]\n" + b"b: [*a, *a]\n" * 1000,
    "keys in keys": b"? " * 500_000,
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_wants_the_processor(tmp_path: Path, name: str) -> None:
    began = time.process_time()
    found = inventory_of(tmp_path, accounts(4, YAML[name][:MIB]))
    assert time.process_time() - began < 20
    assert all(domain.files_problem for domain in found.domains[1:]), "nobody guesses where their files are"


def test_a_list_of_domains_that_cannot_be_read_is_no_empty_list(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInvalid, match="userdata/main: The YAML"):
        inventory_of(tmp_path, tar({"name": "userdata/main", "data": b"sub_domains: [*a]\n"}))


async def test_an_archive_wants_more_time_than_its_size_explains(tmp_path: Path) -> None:
    reader = ArchiveReader(tmp_path / "staging", Limits(cpu_seconds=0.001))
    await reader.stage(from_bytes(accounts(1, YAML["many small mappings"])))
    with pytest.raises(ImportLimitExceeded, match="LIBERU_IMPORTS__CPU_SECONDS"):
        await reader.inspect(None, None)


HANGS = """
from app.external import parser
parser.FORMATS["cpanel"].read = lambda *_: pow(3, 1 << 30)  # one call, in which nothing of ours is asked
from app.external import child
child._GRACE = 1
child.main()
"""


async def test_a_single_call_that_does_not_end_is_ended_by_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(cpu_seconds=1)
    reader = ArchiveReader(tmp_path / "staging", limits)
    await reader.stage(from_bytes(tar()))
    monkeypatch.setattr("app.external.reader._PROGRAM", ["-c", HANGS])
    with pytest.raises(ImportLimitExceeded, match="processor time"):
        await reader.inspect(None, None)


async def endless() -> ByteStream:
    """A member without an end."""
    yield tar()[:-1024] + header("homedir/x", size=b"\x80" + bytes(4) + (1 << 39).to_bytes(7, "big"))
    while True:
        await asyncio.sleep(0)
        yield bytes(MIB)


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


async def until(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not good():
            await asyncio.sleep(0.02)


async def test_an_archive_without_an_end_is_left_at_once_when_cancelled(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    reader = ArchiveReader(tmp_path / "staging", Limits())
    running = asyncio.create_task(reader.stage(endless()))
    await until(lambda: (tmp_path / "staging/content").exists() and (tmp_path / "staging/content").stat().st_size > 0)
    assert set(children_of(os.getpid())) - before
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({running})
    assert running.cancelled()
    assert set(children_of(os.getpid())) <= before
    assert not await reader.ready()


READS = """
import asyncio, sys
from pathlib import Path
from app.external.limits import Limits
from app.external.reader import ArchiveReader
from tests.attacks.test_archives import endless
asyncio.run(ArchiveReader(Path(sys.argv[1]), Limits()).stage(endless()))
"""


async def test_a_reader_does_not_outlive_the_service(tmp_path: Path) -> None:
    """Another one would write into the same folder."""
    service = subprocess.Popen([sys.executable, "-c", READS, str(tmp_path / "s")], cwd=Path(__file__).parents[2])
    try:
        await until(lambda: bool(children_of(service.pid)) and (tmp_path / "s/content").exists())
        [child] = children_of(service.pid)
    finally:
        service.send_signal(signal.SIGKILL)
        service.wait(30)
    await until(lambda: not Path(f"/proc/{child}").exists())


async def test_the_reader_inherits_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBERU_SECRET", "hunter2")
    program = ["-c", "import json, os; print(json.dumps({'inventory': dict(os.environ), 'hashes': {}}))"]
    monkeypatch.setattr("app.external.reader._PROGRAM", program)
    reader = ArchiveReader(tmp_path / "staging", Limits())
    found = await reader._run({}, None)
    assert "hunter2" not in str(found)


# The disk and the memory.


def bomb(size: int) -> bytes:
    return zipped(("homedir/public_html/zeros", bytes(size)))


@pytest.mark.parametrize("nested", [False, True])
def test_a_zip_wants_the_disk(tmp_path: Path, nested: bool) -> None:
    content = bomb(200 * MIB)
    if nested:
        content = tar({"name": "mysql/x.sql.zip", "data": content}, {"name": f"{ROOT}/x", "data": b""})
    with pytest.raises(ImportLimitExceeded, match="times its size"):
        inventory_of(tmp_path, content)
    assert sum(path.stat().st_size for path in (tmp_path / "staging").iterdir()) < 100 * MIB


def test_members_that_share_their_bytes_want_the_disk(tmp_path: Path) -> None:
    """As in a bomb whose members lie over each other, and whose ratio each by itself is fine."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a", os.urandom(1000))
        first = made.infolist()[0]
        for number in range(20):
            again = zipfile.ZipInfo(f"b{number}")
            for name in ("compress_size", "file_size", "CRC", "header_offset", "compress_type", "flag_bits"):
                setattr(again, name, getattr(first, name))
            made.filelist.append(again)
    with pytest.raises(ArchiveInvalid, match="over each other"):
        inventory_of(tmp_path, file.getvalue())


PEAK = """
import sys
from pathlib import Path
from app.external.limits import Limits
from app.external.parser import ExternalBackupParser
parser = ExternalBackupParser(Path(sys.argv[2]), Limits())
with open(sys.argv[1], "rb") as source:
    parser.stage(source)
print(parser.read(None, None).domains[0].files)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_many_members_want_the_memory(tmp_path: Path, kind: str) -> None:
    peaks = []
    for count in (10, 40_000):
        archive = tmp_path / f"{count}"
        names = (f"{DOCROOT}folder/file-{number:08d}.html" for number in range(count))
        if kind == "zip":
            with zipfile.ZipFile(archive, "w") as made:
                made.writestr("cp/u", f"DNS={MAIN}\n")
                for name in names:
                    made.writestr(zipfile.ZipInfo(name), b"")
        else:
            with archive.open("wb") as file:
                file.write(tar({"name": "cp/u", "data": f"DNS={MAIN}\n".encode()})[: -10240 + 512 * 9])
                for name in names:
                    file.write(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
                file.write(bytes(1024))
        argv = [sys.executable, "-c", PEAK, str(archive), str(tmp_path / f"s{count}")]
        done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        files, peak = done.stdout.split()
        assert int(files) >= count
        peaks.append(int(peak) * 1024)
    assert peaks[1] - peaks[0] < 200 * 40_000


# Another's files.


def account(*members: dict[str, Any], **roots: str) -> bytes:
    """`roots`: document roots in the home, "main" and of sub-domains."""
    subs = "".join(f"  - {name}.{MAIN}\n" for name in roots if name != "main")
    base = [
        {"name": "userdata/main", "data": f"main_domain: {MAIN}\nsub_domains:\n{subs}".encode()},
        *(
            {
                "name": f"userdata/{MAIN if name == 'main' else f'{name}.{MAIN}'}",
                "data": f"documentroot: /home/u/{root}\n".encode(),
            }
            for name, root in roots.items()
        ),
    ]
    return tar(*base, *members)


def released(*links: dict[str, Any]) -> bytes:
    """As Capistrano leaves it: the site is in a release, and links lead there."""
    return account(
        {"name": "homedir/app/releases/1/public/old.php", "data": b"old"},
        {"name": "homedir/app/releases/2/public/new.php", "data": b"new"},
        {"name": f"{ROOT}/index.html", "type": tarfile.DIRTYPE},
        *links,
        main="www",
    )


FOLLOWED = {
    "relative": [link("homedir/www", "app/releases/2/public")],
    "by another link": [link("homedir/www", "app/current/public"), link("homedir/app/current", "releases/2")],
    "absolute": [link("homedir/www", "/home/u/app/current/public"), link("homedir/app/current", "./x/../releases/2")],
}  # fmt: skip
REFUSED = {
    "outside": [link("homedir/www", "/etc")],
    "climbing": [link("homedir/www", "../../../../etc")],
    "into the archive beside the home": [link("homedir/www", "../cp")],
    "another's home": [link("homedir/www", "/home/other/public_html")],
    "itself": [link("homedir/www", "www")],
    "in a circle": [link("homedir/www", "a/b"), link("homedir/a", "www")],
    "the home": [link("homedir/www", ".")],
    "nowhere": [link("homedir/www", "gone")],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_document_root_that_is_a_link_is_followed_in_the_home(tmp_path: Path, name: str) -> None:
    [main] = inventory_of(tmp_path, released(*FOLLOWED[name])).domains
    assert (main.document_root, main.files) == ("homedir/app/releases/2/public", 1)


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_root_that_is_a_link_wants_something_else(tmp_path: Path, name: str) -> None:
    [main] = inventory_of(tmp_path, released(*REFUSED[name])).domains
    assert main.document_root is None
    assert main.files_problem is not None
    assert "no folder in the archive is there" in main.files_problem[1]
    assert MAIN in main.files_problem[1]


def members_of(chunks: Any) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as made:
        return {member.name.removeprefix("./"): member for member in made}


def test_links_in_mail_want_a_neighbours_mailbox(tmp_path: Path) -> None:
    box = f"homedir/mail/{MAIN}/info"
    parser = opened(
        tmp_path,
        tar(
            {"name": f"{box}/cur/1.x:2,S", "data": b"fine"},
            link(f"{box}/cur/9.x:2,S", "/etc/passwd"),
            link(f"{box}/.Stolen", f"../../../../victim/mail/{MAIN}/boss"),
            {"name": f"{box}/.Stolen/cur/2.x:2,S", "data": b"behind"},
            link(f"{box}/new", "/var/mail"),
            {"name": f"{box}/tmp/pipe", "type": tarfile.FIFOTYPE},
        ),
    )
    try:
        [main] = parser.read(None, None).domains
        tree = TreeTar(parser.staged, User(1, 1))
        found = members_of(tree.mail(main.mailboxes))
    finally:
        parser.close()
    assert {member.type for member in found.values()} == {tarfile.DIRTYPE, tarfile.REGTYPE}
    assert f"info@{MAIN}/cur/1.x:2,S" in found
    told = [text for text in tree.warnings if "maildirs" in text]
    assert len(told) == 1, "one warning for all"
    assert "4 links or others" in told[0]
    assert "9.x" in told[0]


def test_what_lies_behind_a_sites_links_is_named(tmp_path: Path) -> None:
    parser = opened(tmp_path, tar(link(f"{ROOT}/storage", "../../shared/storage"), link(f"{ROOT}/a", "index.html")))
    try:
        tree = TreeTar(parser.staged, User(1, 1))
        found = members_of(tree.files(parser.read(None, None).domains[0]))
    finally:
        parser.close()
    assert found["storage"].issym()
    [told] = tree.warnings
    assert "1 links or others (storage) lead out of the document root" in told


# What is broken says what it is.


def plesk(*members: tuple[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, data in members:
            info = tarfile.TarInfo(name)
            content = data.encode() if isinstance(data, str) else data
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


XML = f"backup_info_{TIME}.xml"
ENTITY = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><migration-dump>&a;</migration-dump>'
BROKEN_XML: dict[str, tuple[bytes, str]] = {
    "an entity": (plesk((XML, ENTITY)), f"{XML}: .*document type"),
    "an entity, by hand": (plesk(("dump.xml", ENTITY)), r"dump\.xml: .*document type"),
    "cut": (plesk((XML, dump("<domain>")[:-30])), f"{XML}: The XML is not valid"),
    "cut, by hand": (plesk(("dump.xml", "<x><domain name='a.example.com'>")), r"dump\.xml: The XML is not valid"),
    "nothing": (plesk((XML, b"\0\1\2" * 500)), f"{XML}: The XML is not valid"),
}


@pytest.mark.parametrize("name", BROKEN_XML)
def test_xml_that_is_broken_or_hostile_is_named(tmp_path: Path, name: str) -> None:
    content, words = BROKEN_XML[name]
    with pytest.raises(ArchiveInvalid, match=words):
        inventory_of(tmp_path, content)


def test_one_domains_broken_xml_keeps_the_others_from_nothing(tmp_path: Path) -> None:
    user_data = gzip.compress(plesk(("httpdocs/index.html", "fine")))
    whole = dump(f'<domain name="good.example.com"><phosting www-root="httpdocs"><content>{cid("user-data", "u.tgz")}'
                 "</content></phosting></domain>")  # fmt: skip
    infos = '<domain-info name="good.example.com"/><domain-info name="bad.example.com"/>'
    found = inventory_of(
        tmp_path,
        plesk(
            (XML, dump(infos)),
            (f"domains/good.example.com/{XML}", whole),
            ("domains/good.example.com/u.tgz", user_data),
            (f"domains/bad.example.com/{XML}", ENTITY),
        ),
    )
    good, bad = found.domains
    assert (good.name, good.files, good.files_problem) == ("good.example.com", 1, None)
    assert bad.files_problem is not None
    assert f"domains/bad.example.com/{XML}" in bad.files_problem[1]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([{"name": "homedir.tar", "data": tar()[:3000]}], r"homedir\.tar: The tar archive is cut"),
        ([{"name": "homedir.tar", "data": b""}], r"homedir\.tar: .*empty"),
    ],
)
def test_a_nested_archive_that_is_cut_is_named(tmp_path: Path, members: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(LiberuError, match=words):
        inventory_of(tmp_path, tar(*members))


def test_dumps_that_are_cut_or_empty_are_named(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x.sql", "SELECT 1")
    found = inventory_of(
        tmp_path,
        tar({"name": "mysql/a.sql.zip", "data": file.getvalue()[:-5]}, {"name": "mysql/b.sql", "data": b""}),
    )
    problems = {database.name: database.problem for database in found.domains[0].databases}
    assert problems.keys() == {"a", "b"}
    assert "mysql/a.sql.zip: The zip archive" in str(problems["a"])
    assert "mysql/b.sql is empty" in str(problems["b"])


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["nothing", "gzip of nothing"])
def test_an_empty_file_is_called_empty(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatUnknown, match="empty"):
        inventory_of(tmp_path, content)


def test_an_archive_without_members_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(FormatUnknown, match="empty"):
        inventory_of(tmp_path, bytes(10_240))


@pytest.mark.parametrize("system", [0, 3], ids=["made on Windows", "made for Windows elsewhere"])
def test_windows_separators(tmp_path: Path, system: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, text in (
            ("cp\\u", f"DNS={MAIN}\n"), ("userdata\\main", f"main_domain: {MAIN}\n"),
            ("homedir\\public_html\\", ""), ("homedir\\public_html\\a\\b.html", "x"),
        ):  # fmt: skip
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = system, 0
            made.writestr(info, text)
    [main] = inventory_of(tmp_path, file.getvalue()).domains
    assert (main.document_root, main.files) == ("homedir/public_html", 1)


#: As the panels pack them; see app/external/formats/others.py for where that is written.
OTHERS: dict[str, list[tuple[str, str]]] = {
    "DirectAdmin": [
        ("backup/user.conf", "username=u\n"), ("backup/backup_options.list", ""),
        (f"backup/{MAIN}/domain.conf", ""), (f"domains/{MAIN}/public_html/index.html", "x"), ("imap/x", ""),
    ],
    "Hestia": [
        ("./hestia/user.conf", "x"), ("./pam/passwd", "x"), (f"./web/{MAIN}/hestia/web.conf", "x"),
        (f"./web/{MAIN}/domain_data.tar.zst", "x"), (f"./mail/{MAIN}/accounts.tar.zst", "x"), ("./db/u_db/x", ""),
    ],
    "Vesta": [("./vesta/user.conf", "x"), (f"./web/{MAIN}/vesta/web.conf", "x"), ("./cron/cron.conf", "x")],
    "CyberPanel": [
        ("meta.xml", f"<?xml version='1.0'?><metaFile><masterDomain>{MAIN}</masterDomain></metaFile>"),
        ("public_html/index.html", "x"), ("db_name.sql", "x"), ("vhost.conf", "x"),
    ],
    "aaPanel": [(f"{MAIN}/.user.ini", f"open_basedir=/www/wwwroot/{MAIN}/:/tmp/"), (f"{MAIN}/index.php", "x")],
    "ISPConfig": [("web/index.html", "x"), ("private/x", "x"), ("cgi-bin/x", "x"), ("ssl/x", "x"), ("tmp/x", "x")],
}  # fmt: skip


@pytest.mark.parametrize("panel", OTHERS)
def test_another_panels_backup_is_called_by_its_name(tmp_path: Path, panel: str) -> None:
    with pytest.raises(FormatUnsupported, match=f"a backup of {panel}: not supported. What can be done"):
        inventory_of(tmp_path, plesk(*OTHERS[panel]))


def test_what_is_said_can_be_done_can_be_done(tmp_path: Path) -> None:
    found = inventory_of(
        tmp_path,
        plesk(
            ("domain.info", f"domain={MAIN}\n"),
            ("public_html/index.html", "x"),
            ("mysql/shop.sql", "SELECT 1;"),
            ("mail/info/Maildir/cur/1.x:2,S", "x"),
        ),
    )
    [main] = found.domains
    assert (found.format, main.name, main.files) == ("virtualmin", MAIN, 1)
    assert [database.name for database in main.databases] == ["shop"]
    assert [box.address for box in main.mailboxes] == [f"info@{MAIN}"]
