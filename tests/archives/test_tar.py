"""The tar scanner against GNU tar's and Python's archives, and against garbage."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.archives.tar import Member, TarScanner
from app.errors import ArchiveDamaged

_NAMES = st.text(
    st.characters(blacklist_characters="\0/", blacklist_categories=["Cs"]), min_size=1, max_size=150
).filter(lambda name: name not in (".", ".."))
_MEMBERS = st.dictionaries(
    _NAMES, st.tuples(st.sampled_from("fdlh"), st.binary(max_size=3000), st.integers(0, 2**33)), max_size=8
)


def _archive(members: dict[str, tuple[str, bytes, int]], layout: int) -> tuple[bytes, list[Member]]:
    out = io.BytesIO()
    expected = []
    with tarfile.open(fileobj=out, mode="w", format=layout) as tar:
        for name, (kind, content, uid) in members.items():
            info = tarfile.TarInfo(name)
            info.uid = info.gid = uid
            info.type = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}[kind]
            info.size = len(content) if kind == "f" else 0
            info.linkname = "target of " + name if kind in "lh" else ""
            tar.addfile(info, io.BytesIO(content) if kind == "f" else None)
            path = name.encode("utf-8")
            expected.append(Member(path, kind, info.size, uid, uid, info.linkname.encode()))
    return out.getvalue(), expected


def _scan(data: bytes, step: int) -> tuple[list[Member], TarScanner]:
    scanner = TarScanner()
    found = [member for start in range(0, len(data), step) for member in scanner.feed(data[start : start + step])]
    return found, scanner


@given(_MEMBERS, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(1, 5000))
def test_every_member_is_found_however_the_stream_is_cut(
    members: dict[str, tuple[str, bytes, int]], layout: int, step: int
) -> None:
    data, expected = _archive(members, layout)
    found, scanner = _scan(data, step)
    assert scanner.ended
    assert [(m.type, m.size, m.uid, m.path.rstrip(b"/")) for m in found] == [
        (m.type, m.size, m.uid, m.path.rstrip(b"/")) for m in expected
    ]


@settings(max_examples=300)
@given(_MEMBERS, st.data())
def test_a_flipped_or_cut_archive_is_refused_or_read_but_never_breaks_the_scanner(
    members: dict[str, tuple[str, bytes, int]], data: st.DataObject
) -> None:
    archive, _ = _archive(members, tarfile.PAX_FORMAT)
    damaged = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with suppress(ArchiveDamaged):
        _scan(cut, 700)


@pytest.mark.parametrize("value", [b"-5", b"\x00097152", b"1_0", b"9" * 5000, b"9223372036854775808", b""])
@pytest.mark.parametrize("key", [b"size", b"uid", b"GNU.sparse.realsize"])
def test_numbers_that_are_none(key: bytes, value: bytes) -> None:
    record = key + b"=" + value + b"\n"
    length = next(n for n in range(len(record), len(record) + 9) if n == len(record) + len(str(n)) + 1)
    payload = b"%d %s" % (length, record)
    with pytest.raises(ArchiveDamaged, match="number"):
        _scan(_entry(b"x", payload) + _entry(b"0", b""), 512)


def _entry(kind: bytes, payload: bytes) -> bytes:
    info = tarfile.TarInfo("name")
    info.type, info.size = kind, len(payload)
    return info.tobuf() + payload + bytes(-len(payload) % 512)


@given(st.binary(max_size=4000))
def test_garbage(data: bytes) -> None:
    with suppress(ArchiveDamaged):
        _scan(data, 333)
