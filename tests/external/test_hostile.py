"""Hostile and broken archives: each with what must happen. Nothing outside the site is touched, no limit passed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import resource
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from app.archives.streams import Sink, produce
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import User
from app.deployments.standalone import StandaloneDeployment
from app.errors import (
    ArchiveEncrypted,
    ArchiveInvalid,
    FormatAmbiguous,
    FormatUnknown,
    FormatUnsupported,
    ImportLimitExceeded,
    LiberuError,
)
from app.external.inventory import Inventory
from app.external.limits import Limits
from app.external.staged import Staged
from app.external.tree import TreeTar
from tests.components.helpers import SITE_UID, Context
from tests.external.conftest import parsed, streamed

LIMITS = Limits(bytes=32 << 20, members=2000, ratio=100, depth=3, seconds=60)
MAIN = "shop.example.com"
ROOT = "homedir/public_html"


def tar(*members: dict[str, Any], end: bool = True) -> bytes:
    """A cPanel account with these members besides; `data` is content, the rest as TarInfo has it."""
    base = [
        {"name": "cp/u", "data": b"DNS=shop.example.com\n"},
        {"name": "userdata/main", "data": b"main_domain: shop.example.com\n"},
        {"name": f"userdata/{MAIN}", "data": b"documentroot: /home/u/public_html\n"},
        {"name": f"{ROOT}/index.html", "data": b"fine"},
    ]
    file = io.BytesIO()
    taken = {facts["name"] for facts in members}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as made:
        for facts in [*(facts for facts in base if facts["name"] not in taken), *members]:
            data = facts.get("data", b"")
            info = tarfile.TarInfo(facts["name"])
            info.size = len(data)
            for key, value in facts.items():
                if key != "data":
                    setattr(info, key, value)
            made.addfile(info, io.BytesIO(data))
    content = file.getvalue()
    return content if end else content.rstrip(b"\0")[: -(len(content.rstrip(b"\0")) % 512) or None]


def whole() -> bytes:
    return tar({"name": f"{ROOT}/noise", "data": random.Random(1).randbytes(300_000)})


def flipped(data: bytes, at: float = 0.5) -> bytes:
    place = int(len(data) * at)
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("cp/u", "DNS=shop.example.com\n")
        made.writestr("userdata/main", "main_domain: shop.example.com\n")
        for name, data in members:
            made.writestr(name, data)
    return file.getvalue()


def encrypted_zip() -> bytes:
    content = bytearray(zipped(("homedir/x", b"y")))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(magic)
        content[at + offset] |= 1
    return bytes(content)


def stored_zip(change: Callable[[bytes], bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as made:
        made.writestr("cp/u", "DNS=shop.example.com\n")
        made.writestr("homedir/data", b"NEEDLE" * 100)
    return change(file.getvalue())


def header(name: str, *, size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    """A header with fields that tarfile would not write."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def sparse(pax: dict[str, str], data: bytes, **facts: Any) -> dict[str, Any]:
    return {"name": f"{ROOT}/sparse", "data": data, "pax_headers": pax, **facts}


TERABYTE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
SMALL_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100"}
PADDED = b"\0" * 512

BROKEN: dict[str, tuple[Callable[[], bytes], type[LiberuError]]] = {
    "empty": (lambda: b"", FormatUnknown),
    "noise": (lambda: random.Random(2).randbytes(5000), FormatUnknown),
    "only zeros": (lambda: bytes(10_240), FormatUnknown),
    "text": (lambda: b"hello\n" * 500, FormatUnknown),
    "gzip of noise": (lambda: gzip.compress(random.Random(3).randbytes(5000)), FormatUnknown),
    "gzip cut in the middle": (lambda: gzip.compress(whole())[:150_000], ArchiveInvalid),
    "gzip without its last byte": (lambda: gzip.compress(whole())[:-1], ArchiveInvalid),
    "gzip without its trailer": (lambda: gzip.compress(whole())[:-8], ArchiveInvalid),
    "gzip with a flipped bit": (lambda: flipped(gzip.compress(whole())), ArchiveInvalid),
    "gzip with a wrong checksum": (lambda: gzip.compress(whole())[:-8] + b"\1\2\3\4" + gzip.compress(whole())[-4:],
                                   ArchiveInvalid),
    "gzip followed by something": (lambda: gzip.compress(whole()) + b"trailing", ArchiveInvalid),
    "gzip with a cut second member": (lambda: gzip.compress(whole()) + gzip.compress(b"x")[:-3], ArchiveInvalid),
    "bzip2 cut": (lambda: bz2.compress(whole())[:-10], ArchiveInvalid),
    "bzip2 with a flipped bit": (lambda: flipped(bz2.compress(whole())), ArchiveInvalid),
    "xz cut": (lambda: lzma.compress(whole())[:-10], ArchiveInvalid),
    "xz with a flipped bit": (lambda: flipped(lzma.compress(whole())), ArchiveInvalid),
    "zstd cut": (lambda: zstd(whole())[:-10], ArchiveInvalid),
    "zstd with a flipped bit": (lambda: flipped(zstd(whole())), ArchiveInvalid),
    "zstd with a cut second frame": (lambda: zstd(whole()) + zstd(b"x" * 1000)[:-2], ArchiveInvalid),
    "tar without an end": (lambda: tar(end=False), ArchiveInvalid),
    "tar cut in a member": (lambda: whole()[:200_000], ArchiveInvalid),
    "tar cut in a header": (lambda: whole()[: 512 * 3 + 100], ArchiveInvalid),
    "tar with a broken header": (lambda: flipped(tar({"name": "x"}), 0.0) + bytes(512), FormatUnknown),
    "tar with a broken header later": (lambda: tar()[:4096] + flipped(tar()[4096:], 0.01), ArchiveInvalid),
    "tar with a size of nonsense": (lambda: header("x", size=b"nonsense\0\0\0\0") + tar(), ArchiveInvalid),
    "tar with a negative size": (lambda: header("x", size=b"\xff" * 12) + tar(), ArchiveInvalid),
    "tar with an endless extended header": (lambda: header("x", size=b"77777777777\0", kind=b"x") + tar(),
                                            ArchiveInvalid),
    "tar with a sparse map beyond its data": (
        lambda: tar(sparse({**SMALL_SPARSE, "GNU.sparse.realsize": "5000"}, b"1\n0\n4000\n" + bytes(503))),
        ArchiveInvalid),
    "tar with overlapping sparse parts": (
        lambda: tar(sparse(SMALL_SPARSE, (b"2\n10\n50\n20\n50\n" + bytes(512))[:512] + bytes(200))), ArchiveInvalid),
    "tar with a sparse map of nonsense": (lambda: tar(sparse(SMALL_SPARSE, b"x\ny\n" + bytes(600))), ArchiveInvalid),
    "nested home that is cut": (lambda: tar({"name": "homedir.tar", "data": tar()[:5000]}), ArchiveInvalid),
    "zip without its directory": (lambda: zipped(("homedir/x", b"y" * 1000))[:-30], ArchiveInvalid),
    "zip with a flipped bit": (lambda: stored_zip(lambda data: data.replace(b"EED", b"EEd", 1)), ArchiveInvalid),
    "zip that is encrypted": (encrypted_zip, ArchiveEncrypted),
    "OpenPGP, armoured": (lambda: b"-----BEGIN PGP MESSAGE-----\n\nabc", ArchiveEncrypted),
    "OpenPGP, for a key": (lambda: b"\x85\x01\x0c\x03" + bytes(300), ArchiveEncrypted),
    "OpenPGP, by a password": (lambda: b"\x8c\x0d\x04\x09\x03\x02" + bytes(300), ArchiveEncrypted),
    "a Plesk 8 dump": (lambda: gzip.compress(b"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n" * 3),
                       FormatUnsupported),
    "two panels at once": (lambda: tar({"name": "shop.example.com_virtualmin", "data": b"dom=x\n"}),
                           FormatAmbiguous),
    # Bombs and giants.
    "gzip bomb": (lambda: gzip.compress(bytes(200 << 20), 9), ImportLimitExceeded),
    "gzip bomb in a tar": (lambda: gzip.compress(tar({"name": f"{ROOT}/zeros", "data": bytes(90 << 20)})),
                           ImportLimitExceeded),
    "bomb in a bomb": (lambda: gzip.compress(gzip.compress(bytes(200 << 20), 9), 9), ImportLimitExceeded),
    "zstd bomb": (lambda: zstd(bytes(300 << 20)), ImportLimitExceeded),
    "xz bomb": (lambda: lzma.compress(bytes(200 << 20), preset=0), ImportLimitExceeded),
    "zip bomb": (lambda: zipped(("homedir/x", bytes(90 << 20))), ImportLimitExceeded),
    "archives in archives": (lambda: gzip.compress(gzip.compress(gzip.compress(gzip.compress(tar())))),
                             ImportLimitExceeded),
    "a sparse terabyte": (lambda: tar(sparse(TERABYTE, b"0\n" + bytes(510))), ImportLimitExceeded),
    "an old sparse terabyte": (lambda: header("x", kind=b"S")[:483] + b"100000000000" + bytes(17), FormatUnknown),
    "more members than allowed": (lambda: tar(*({"name": f"{ROOT}/{number}"} for number in range(2100))),
                                  ImportLimitExceeded),
}  # fmt: skip


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-hostile-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def restored(
    place: Path, content: bytes, domain: str | None = None, format: str | None = None
) -> tuple[Inventory, list[str]]:
    """Import the main domain's files, when there are any, as its user into `place`/site."""
    (place / "archive").write_bytes(content)
    site = place / "site"
    site.mkdir()
    for path in (place, site):
        if os.geteuid() == 0 and path is site:
            os.chown(path, SITE_UID, SITE_UID)
    async with parsed(place / "staging", streamed(place / "archive"), LIMITS) as parser:
        inventory = parser.read(format, domain)
    main = inventory.domains[0]
    if main.document_root is None or main.files_problem is not None:
        return inventory, inventory.warnings
    warnings = list(inventory.warnings)
    owner = User(SITE_UID, SITE_UID)

    def work(sink: Sink) -> None:
        staged = Staged(place / "staging")
        try:
            for chunk in TreeTar(staged, owner, warnings).files(main):
                sink.write(chunk)
        finally:
            staged.close()

    component = FilesComponent(StandaloneDeployment(), FilesTarget(str(site), owner))
    context = Context()
    await component.restore(produce(work, "import"), context.context, main.bytes)
    await component.tidy(context.journal)
    return inventory, warnings


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_or_too_large_is_refused(place: Path, name: str) -> None:
    make, error = BROKEN[name]
    content = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error) as raised:
        await restored(place, content, MAIN)
    assert raised.value.message
    assert list((place / "site").iterdir()) == []
    used = sum(path.stat().st_size for path in (place / "staging").iterdir())
    assert used < LIMITS.bytes + (8 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10, "in KiB"


@pytest.mark.parametrize(
    "pad", [b"", bytes(512), bytes(100_000)], ids=["as it is", "a block of zeros", "a tape's zeros"]
)  # fmt: skip
async def test_what_is_only_padded_or_in_pieces_is_whole(place: Path, pad: bytes) -> None:
    content = whole()
    pieces = gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + pad
    await restored(place, pieces)
    assert (place / "site/noise").stat().st_size == 300_000


def link(name: str, target: str) -> dict[str, Any]:
    return {"name": name, "type": tarfile.SYMTYPE, "linkname": target}


def hard(name: str, target: str) -> dict[str, Any]:
    return {"name": name, "type": tarfile.LNKTYPE, "linkname": target}


DEEP = "/".join(["d"] * 200)
#: Members, names that must be there afterwards, words of a warning.
HOSTILE: dict[str, tuple[list[dict[str, Any]], set[str], str]] = {
    "parent folders": ([{"name": f"{ROOT}/../../../../canary", "data": b"x"}], set(), "left out"),
    "an absolute name": ([{"name": "/tmp/liberu-canary", "data": b"x"}], set(), "left out"),
    "a member behind a link": ([link(f"{ROOT}/a", "/tmp"), {"name": f"{ROOT}/a/liberu-canary"}], {"a"}, "behind"),
    "a member behind a link's folder": (
        [link(f"{ROOT}/a", ".."), {"name": f"{ROOT}/a/b/c", "data": b"x"}], {"a"}, "behind"),
    "a link that becomes a folder": (
        [link(f"{ROOT}/a", "/tmp"), {"name": f"{ROOT}/a", "type": tarfile.DIRTYPE, "mode": 0o755},
         {"name": f"{ROOT}/a/liberu-canary", "data": b"inside"}], {"a", "a/liberu-canary"}, ""),
    "a hard link to the system": ([hard(f"{ROOT}/passwd", "/etc/passwd")], set(), "left out"),
    "a hard link out of the archive": ([hard(f"{ROOT}/passwd", "../../etc/passwd")], set(), "left out"),
    "a hard link to nothing": ([hard(f"{ROOT}/nothing", f"{ROOT}/missing")], set(), "left out"),
    "a hard link to a link": ([link(f"{ROOT}/l", "/etc/passwd"), hard(f"{ROOT}/h", f"{ROOT}/l")], {"l"}, "left out"),
    "a device": ([{"name": f"{ROOT}/null", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}], set(), "device"),
    "a disk": ([{"name": f"{ROOT}/sda", "type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0}], set(), "device"),
    "a named pipe": ([{"name": f"{ROOT}/pipe", "type": tarfile.FIFOTYPE}], set(), "named pipe"),
    "a set-uid program": ([{"name": f"{ROOT}/su", "data": b"#!", "mode": 0o6755}], {"su"}, ""),
    "a maze": ([{"name": f"{ROOT}/{DEEP}/x", "data": b"x"}], set(), "left out"),
    "a name that is too long": ([{"name": f"{ROOT}/{'n' * 300}", "data": b"x"}], set(), "left out"),
    "names of shells": (
        [{"name": f"{ROOT}/$(touch canary)`id`;&|*?'\"", "data": b"x"}, {"name": f"{ROOT}/-rf", "data": b"x"},
         {"name": f"{ROOT}/two\nlines", "data": b"x"}, {"name": f"{ROOT}/--checkpoint-action=exec=id", "data": b"x"}],
        {"$(touch canary)`id`;&|*?'\"", "-rf", "two\nlines", "--checkpoint-action=exec=id"}, ""),
    "a staging folder of ours": ([{"name": f"{ROOT}/.liberu-restore-x/y", "data": b"x"}], set(), "themselves"),
    "aliases in YAML": (
        [{"name": f"userdata/{MAIN}", "data": b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"}], set(), "aliases"),
    "a tag in YAML": (
        [{"name": f"userdata/{MAIN}", "data": b"!!python/object/apply:os.system ['touch /tmp/liberu-canary']\n"}],
        set(), "cannot be read"),
    "YAML without end": ([{"name": f"userdata/{MAIN}", "data": b"[" * 5000}], set(), "cannot be read"),
    "domains that are paths": (
        [{"name": "userdata/main", "data": b"main_domain: shop.example.com\nsub_domains: ['../../etc', 7, '*.x.y']\n"
          b"addon_domains: {'../x': '../../etc/passwd'}\nparked_domains: {a: b}\n"}], set(), ""),
    "a mailbox that is a path": (
        [{"name": f"homedir/etc/{MAIN}/passwd", "data": b"../../x:x\n-rf:x\n:x\n.hidden:x\n"}], set(), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_hostile_is_left_out_and_the_rest_is_imported(place: Path, name: str) -> None:
    members, expected, warning = HOSTILE[name]
    canary = place / "canary"
    canary.write_text("untouched")
    planted = Path("/tmp/liberu-canary")
    inventory, warnings = await restored(place, tar(*members))
    site = place / "site"
    found = {str(path.relative_to(site)) for path in site.rglob("*")}
    assert found == {"index.html", *expected}
    assert canary.read_text() == "untouched"
    assert not planted.exists()
    assert any(warning in text for text in warnings) or not warning
    for path in site.rglob("*"):
        assert not path.lstat().st_mode & 0o6000
    assert {domain.name for domain in inventory.domains} == {MAIN}
    assert all("/" not in box.address and box.address[0] not in ".-" for box in inventory.domains[0].mailboxes)


@pytest.mark.parametrize("root", ["/etc", "/home/u/../../etc", "/home/u/nowhere", "/home/other/public_html"])
async def test_a_document_root_that_is_not_there_is_a_failed_part(place: Path, root: str) -> None:
    inventory, _ = await restored(place, tar({"name": f"userdata/{MAIN}", "data": f"documentroot: {root}".encode()}))
    [main] = inventory.domains
    assert main.document_root is None
    assert main.files_problem is not None
    assert "in the archive" in main.files_problem[1]
    assert list((place / "site").iterdir()) == []


async def test_genuine_oddities_import(place: Path) -> None:
    """An absolute link in the home, hard-linked files, the second of a name, a sparse file of pax 0.1."""
    content = tar(
        link("homedir/access-logs", "/usr/local/apache/domlogs/u"),
        {"name": f"{ROOT}/one", "data": b"same"}, hard(f"{ROOT}/two", f"{ROOT}/one"),
        {"name": f"{ROOT}/again", "data": b"first"}, {"name": f"{ROOT}/again", "data": b"second"},
        sparse({"GNU.sparse.map": "10,3,2000,2", "GNU.sparse.size": "3000", "GNU.sparse.numblocks": "2",
                "GNU.sparse.name": f"{ROOT}/holes"}, b"abcde"),
    )  # fmt: skip
    _, warnings = await restored(place, content)
    site = place / "site"
    assert (site / "two").read_bytes() == b"same"
    assert (site / "again").read_bytes() == b"second"
    holes = bytearray(3000)
    holes[10:13], holes[2000:2002] = b"abc", b"de"
    assert (site / "holes").read_bytes() == holes
    assert warnings == []


def test_the_headers_made_here_are_real() -> None:
    """GNU tar lists what the tests change, so that they fail for the reason they name."""
    listed = subprocess.run(["tar", "-tf", "-"], input=whole(), capture_output=True, check=True)
    assert f"{ROOT}/noise" in listed.stdout.decode()
    assert struct.calcsize("512s") == len(header("x"))
