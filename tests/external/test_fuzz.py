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
from pathlib import Path

import pytest

from app.archives.tar import TarScanner
from app.deployments.base import User
from app.errors import LiberuError
from app.external.limits import Budget, Limits
from app.external.parser import ExternalBackupParser
from app.external.tree import TreeTar, plain_sql
from app.external.unpack import Unpacker
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
            if domain.document_root is not None:
                trees.append(TreeTar(parser.staged, User(1, 1)).files(domain))
            for tree in trees:
                scanner = TarScanner()
                for chunk in tree:
                    list(scanner.feed(chunk))
                assert scanner.ended
            for database in domain.databases:
                item = parser.staged.get(database.source)
                assert item is not None
                for _ in plain_sql(parser.staged, item, Budget(LIMITS)):
                    pass
    finally:
        parser.close()


@pytest.mark.timeout(SECONDS + 120)
def test_every_changed_metadata_file(tmp_path: Path) -> None:
    """The account's own files, each changed in turn, in an archive that is sound."""
    rng = random.Random(f"metadata{os.environ.get('FUZZ_SEED', '1')}")
    top = make_account(tmp_path, documents=2)
    names = ["cp/shopuser", "userdata/main", f"userdata/{MAIN}", "mysql.sql", "homedir_paths", f"va/{MAIN}",
             f"homedir/etc/{MAIN}/passwd", f"homedir/etc/{MAIN}/quota", f"homedir/etc/{MAIN}/shadow"]  # fmt: skip
    files = {name: (top / name).read_bytes() for name in names}
    rest = {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink() and str(path.relative_to(top)) not in files
    }
    end, rounds = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or rounds < 20:
        rounds += 1
        name = rng.choice(names)
        content = {**rest, **files, name: changed(files[name], rng)}
        account = tar(*({"name": key, "data": data} for key, data in content.items()))
        with suppress(LiberuError):
            read_all(tmp_path / "staging", account)
