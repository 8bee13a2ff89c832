"""Changed archives raise errors of ours or are read: nothing else, for as long as FUZZ_SECONDS says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.archives.tar import TarScanner
from app.deployments.base import User
from app.errors import LiberuError
from app.external.formats import plesk_dumps
from app.external.key_values import pairs
from app.external.limits import Budget, Limits
from app.external.names import domain_name
from app.external.object_index import indexed_domains
from app.external.parser import ExternalBackupParser
from app.external.tree import TreeTar, plain_sql
from app.external.unpack import Unpacker
from app.external.xml import Element, read_xml, root_name
from tests.external import plesk_dump, virtualmin_domain
from tests.external import test_hostile_panels as panels
from tests.external.cpanel_account import make_account
from tests.external.test_hostile import MAIN, SMALL_SPARSE, hard, link, sparse, tar, zstd

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
LIMITS = Limits(bytes=8 << 20, members=1000, ratio=100, depth=3, seconds=20)


def small() -> bytes:
    return tar(
        link("homedir/access-logs", "/x"), hard("homedir/public_html/h", "homedir/public_html/index.html"),
        sparse(SMALL_SPARSE, (b"1\n10\n50\n" + bytes(512))[:512] + bytes(512)),
        {"name": f"homedir/etc/{MAIN}/passwd", "data": b"info:x\n"}, {"name": "mysql/u_db.sql", "data": b"-- x\n"},
        {"name": f"homedir/mail/{MAIN}/info/cur/1:2,S", "data": b"message"}, {"name": "va/x", "data": b"a: b\n"},
        {"name": "homedir/public_html/" + "long" * 40, "data": b"pax"},
    )  # fmt: skip


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("cp/u", "userdata/main", "homedir/public_html/index.html", "mysql/x.sql"):
            made.writestr(name, f"main_domain: {MAIN}\nDNS={MAIN}\n" * 5)
    return file.getvalue()


SEEDS: dict[str, Callable[[], bytes]] = {
    "tar": small, "gzip": lambda: gzip.compress(small()), "bzip2": lambda: bz2.compress(small()),
    "xz": lambda: lzma.compress(small()), "zstd": lambda: zstd(small()), "zip": zipped,
}  # fmt: skip


def changed(data: bytes, rng: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(content))
        kind = rng.randrange(5)
        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at : at + rng.randrange(1, 40)] = rng.randbytes(rng.randrange(1, 40))
        elif kind == 2:
            del content[at : at + rng.randrange(1, 600)]
        elif kind == 3:
            content[at:at] = content[rng.randrange(len(content)) :][: rng.randrange(1, 1200)]
        else:
            content[at : at + 12] = rng.choice([b"7" * 12, b"\xff" * 12, b"\0" * 12, b"-1          "])
        if not content:
            return b"x"
    return bytes(content)


@pytest.mark.parametrize("kind", SEEDS)
@pytest.mark.timeout(SECONDS + 120)
def test_every_changed_archive(tmp_path: Path, kind: str) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    rng, original = random.Random(f"{kind}{seed}"), SEEDS[kind]()
    end, rounds = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or rounds < 20:
        rounds += 1
        content = changed(original, rng)
        try:
            read_all(tmp_path / "staging", content)
        except LiberuError:
            pass
        except Exception as error:
            kept = Path(os.environ.get("FUZZ_KEEP", str(tmp_path))) / f"{kind}-{rounds}"
            kept.write_bytes(content)
            raise AssertionError(f"{type(error).__name__} for {kept}, round {rounds}") from error


def read_all(folder: Path, content: bytes) -> None:
    """As the import does: the archive, its inventory, every part."""
    shutil.rmtree(folder, ignore_errors=True)
    parser = ExternalBackupParser(folder, LIMITS)
    try:
        Unpacker(parser.staged, Budget(LIMITS)).unpack(io.BytesIO(content))
        inventory = parser.read(None, MAIN)
        for domain in inventory.domains:
            trees = [TreeTar(parser.staged, User(1, 1)).mail(domain.mailboxes)]
            if domain.document_root is not None and domain.files_problem is None:
                trees.append(TreeTar(parser.staged, User(1, 1)).files(domain))
            for tree in trees:
                scanner = TarScanner()
                for chunk in tree:
                    list(scanner.feed(chunk))
                assert scanner.ended
            for database in (found for found in domain.databases if found.problem is None):
                item = parser.staged.get(database.source)
                assert item is not None
                for _ in plain_sql(parser.staged, item, Budget(LIMITS)):
                    pass
    finally:
        parser.close()


def account(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """A cPanel account by member, and the account's own files."""
    top = make_account(folder, documents=2)
    files = {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    names = ["cp/shopuser", "userdata/main", f"userdata/{MAIN}", "mysql.sql", "homedir_paths", f"va/{MAIN}",
             f"homedir/etc/{MAIN}/passwd", f"homedir/etc/{MAIN}/quota", f"homedir/etc/{MAIN}/shadow"]  # fmt: skip
    return files, names


def virtualmin(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """KEY=VALUE settings and the list of users, of two servers in one archive."""
    files = {"public_html/index.html": b"x", "Maildir/cur/1:2,S": b"m", "homes/info/Maildir/new/2": b"m"}
    home = panels.tar(*files.items())
    members = dict[str, bytes]()
    for name in (MAIN, "other.example.org"):
        members |= {f"{name}_{key}": data for key, data in virtualmin_domain.features(name).items()}
        members |= {f"{name}_dir.tar": home, f"{name}_mail_files": home}
    names = [name for name in members if name.endswith(("_virtualmin", "_mail_users", "_mail_aliases"))]
    return members, names


def plesk(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """The description in XML and the index of objects."""
    made = plesk_dump.Subscription(folder / "dump", documents=2, kind="tar")
    described, index = f"backup_info_{plesk_dump.TIME}.xml", ".discovered/x/object_index"
    members = {described: plesk_dump.dump(made.write(), '<domain-info name="x.example.com"/>').encode()}
    members[index] = f"domain\tguid\tx.example.com\tdomains/x/{described}\nsite\ty.example.com\t-\n".encode()
    members |= {
        str(path.relative_to(made.folder)): path.read_bytes() for path in made.folder.rglob("*") if path.is_file()
    }
    return members, [described, index]


@pytest.mark.parametrize("make", [account, virtualmin, plesk])
@pytest.mark.timeout(SECONDS + 120)
def test_every_changed_metadata_file(
    tmp_path: Path, make: Callable[[Path], tuple[dict[str, bytes], list[str]]]
) -> None:
    """The panel's own files, each changed in turn, in an archive that is sound."""
    rng = random.Random(f"metadata{make.__name__}{os.environ.get('FUZZ_SEED', '1')}")
    members, names = make(tmp_path)
    end, rounds = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or rounds < 20:
        rounds += 1
        name = rng.choice(names)
        data = changed(members[name], rng)
        try:
            read_all(tmp_path / "staging", panels.tar(*({**members, name: data}).items()))
        except LiberuError:
            pass
        except Exception as error:
            kept = Path(os.environ.get("FUZZ_KEEP", str(tmp_path))) / f"{make.__name__}-{rounds}"
            kept.write_bytes(data)
            raise AssertionError(f"{type(error).__name__} for {name} as in {kept}, round {rounds}") from error


KEPT = replace(plesk_dumps.KEPT, elements=plesk_dumps.KEPT.elements | {"x", "y"})
NAMES = st.sampled_from(["domain", "site", "x", "y", "cid", "content-file"])


@given(st.recursive(NAMES, lambda inner: st.tuples(NAMES, st.lists(inner, max_size=4)), max_leaves=30))
def test_xml_is_read_as_it_was_written(tree: Any) -> None:
    def written(node: Any) -> str:
        name, below = node if isinstance(node, tuple) else (node, [])
        return f'<{name} name="&lt;{name}&quot;">{"".join(map(written, below))}</{name}>'

    def found(element: Element) -> Any:
        assert element.get("name") == f'<{element.name}"'
        below = [found(child) for child in element.children]
        return (element.name, below) if below else element.name

    def plain(node: Any) -> Any:
        return (node[0], [plain(n) for n in node[1]]) if isinstance(node, tuple) and node[1] else (
            node[0] if isinstance(node, tuple) else node
        )  # fmt: skip

    text = written(tree).encode()
    assert found(read_xml([text[:3], text[3:]], KEPT, b"x")) == plain(tree)


@given(st.binary(max_size=2000))
def test_xml_of_anything(data: bytes) -> None:
    with suppress(LiberuError):
        read_xml([data], plesk_dumps.KEPT, b"x")
    root_name([data])


@given(st.text(max_size=500))
def test_lines_of_anything(text: str) -> None:
    for key, value in pairs(text):
        assert "=" not in key
        assert value == value.strip()
    for entry in indexed_domains(text):
        assert domain_name(entry.name) == entry.name


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.from_regex(r"[!-~]{0,50}", fullmatch=True)))
def test_settings_are_read_as_they_were_written(settings: dict[str, str]) -> None:
    assert dict(pairs("".join(f"{key}={value}\n" for key, value in settings.items()))) == settings


@given(st.lists(st.from_regex(r"[a-z]{1,10}\.example\.com", fullmatch=True), max_size=20, unique=True))
def test_an_index_is_read_as_it_was_written(names: list[str]) -> None:
    text = "".join(f"domain\t{name}\tguid\tdomains/{name}/x_info_1.xml\n" for name in names)
    found = [(entry.name, entry.described) for entry in indexed_domains(text)]
    assert found == [(name, f"domains/{name}/x_info_1.xml") for name in names]
