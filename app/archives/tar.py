"""Reading tar headers from a stream: what an archive says it holds.

Sources: POSIX.1-2017 pax interchange format; the GNU tar manual, "Storing Sparse Files" (PAX format 0.0-1.0)
and "GNU tar format" (long names, types L and K; old sparse files, type S; directories of incremental dumps, type D).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zlib import adler32

from app.errors import ArchiveDamaged

BLOCK = 512
_MAX_EXTENDED = 16 << 20
#: Of a sparse file's map as text, and of the headers that hold an old one: 200,000 pieces.
_MAX_MAP = 4 << 20
_MAX_NAME = 64 << 10
_ZERO = bytes(BLOCK)
_MAX_DIGITS = 20
_EIGHT_SPACES = 8 * 32


@dataclass(frozen=True, slots=True)
class Member:
    """`type` as in a directory listing (f d l p c b) or `h` for a hard link; `size` in bytes when expanded.

    `stored`: bytes of content that follow the header. `sparse`: how the holes of a sparse file are told: None: there
    are none, "1.0": at the content's start, else offsets and lengths of what is stored, "offset,length,…".
    """

    path: bytes
    type: str
    size: int
    uid: int
    gid: int
    link: bytes
    mode: int = 0o644
    mtime: float = 0.0
    stored: int = 0
    sparse: str | None = None


_TYPES = {
    b"0": "f",
    b"\0": "f",
    b"7": "f",
    b"1": "h",
    b"2": "l",
    b"3": "c",
    b"4": "b",
    b"5": "d",
    b"6": "p",
    b"D": "d",
}


#: What of an extended header tells something here: others may be many, and are not kept.
_KEYS = frozenset({
    b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"GNU.sparse.name", b"GNU.sparse.map",
    b"GNU.sparse.size", b"GNU.sparse.realsize", b"GNU.sparse.major", b"GNU.sparse.numblocks",
})  # fmt: skip


class TarScanner:
    """Fed with a tar stream in chunks of any size, yields its members. Keeps no member and no contents.

    The time it takes grows with the stream, whatever is in it and however small the chunks are."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []  # what cannot be read before `_wanted` bytes are there
        self._gathered = self._wanted = 0
        self._old_sparse: tuple[bytes, bytearray] | None = None
        self._skip = 0
        self._zero_blocks = 0
        self._extended: dict[bytes, bytes] = {}

    @property
    def ended(self) -> bool:
        """True when the end-of-archive marker (two zero blocks) has been seen."""
        return self._zero_blocks >= 2

    def feed(self, data: bytes) -> Iterator[Member]:  # noqa: PLR0915,RUF100  one loop: restores spend their time here
        """Raises ArchiveDamaged for a header that is none."""
        if self._skip >= len(data) and not self._waiting:
            self._skip -= len(data)
            return
        self._waiting.append(data)
        self._gathered += len(data)
        if self._gathered < self._wanted:
            return
        buffer = data if len(self._waiting) == 1 else b"".join(self._waiting)
        wanted = BLOCK
        position = 0
        while True:
            if self._skip:
                step = min(self._skip, len(buffer) - position)
                position += step
                self._skip -= step
            if self._skip or len(buffer) - position < BLOCK:
                break
            header = buffer[position : position + BLOCK]
            if self._old_sparse is not None:
                position += BLOCK
                member = self._mapped(header[:504], goes_on=bool(header[504]))
                if member is not None:
                    self._skip = _padded(member.stored)
                    yield member
                continue
            if header == _ZERO:
                self._zero_blocks += 1
                position += BLOCK
                continue
            if self.ended:  # padding after the end may hold anything
                position += BLOCK
                continue
            self._zero_blocks = 0
            _check(header)
            kind = header[156:157]
            size = _number(header[124:136])
            if kind in b"xgLK":
                if size > _MAX_EXTENDED:
                    raise ArchiveDamaged("The tar archive holds an extended header larger than 16 MiB")
                needed = BLOCK + _padded(size)
                if len(buffer) - position < needed:
                    wanted = needed
                    break
                self._extend(kind, buffer[position + BLOCK : position + BLOCK + size])
                position += needed
                continue
            if kind == b"V":  # the volume's label
                self._skip = _padded(size)
                position += BLOCK
                continue
            position += BLOCK
            if kind == b"S":
                self._old_sparse = header, bytearray()
                member = self._mapped(header[386:482], goes_on=bool(header[482]))
                if member is None:
                    continue
            else:
                member = self._member(header, kind, size)
            self._skip = _padded(member.stored)
            yield member
        rest = buffer[position:]
        self._waiting, self._gathered, self._wanted = [rest] if rest else [], len(rest), wanted

    def _extend(self, kind: bytes, payload: bytes) -> None:
        if kind == b"L":
            self._extended[b"path"] = payload.rstrip(b"\0")
        elif kind == b"K":
            self._extended[b"linkpath"] = payload.rstrip(b"\0")
        elif kind == b"x":
            self._extended.update(_pax_records(payload))

    def _mapped(self, fields: bytes, *, goes_on: bool) -> Member | None:
        """An old GNU sparse file, whose map goes on in as many headers as it needs; None: it is not whole yet."""
        assert self._old_sparse is not None
        header, known = self._old_sparse
        known += fields
        if len(known) > _MAX_MAP:
            raise ArchiveDamaged("The tar archive holds a map of a sparse file larger than 4 MiB")
        if goes_on:
            return None
        self._old_sparse = None
        numbers = [_number(bytes(known[start : start + 12])) for start in range(0, len(known), 12) if known[start]]
        self._extended[b"GNU.sparse.map"] = ",".join(str(number) for number in numbers).encode()
        self._extended[b"GNU.sparse.size"] = str(_number(header[483:495])).encode()
        return self._member(header, b"S", _number(header[124:136]))

    def _member(self, header: bytes, kind: bytes, size: int) -> Member:
        pax, self._extended = self._extended, {}
        path = pax.get(b"GNU.sparse.name") or pax.get(b"path")
        if path is None:
            path = header[:100].partition(b"\0")[0]
            prefix = header[345:500].partition(b"\0")[0]
            if prefix and header[257:263] == b"ustar\0":
                path = prefix + b"/" + path
        stored = _decimal(pax[b"size"]) if b"size" in pax else size
        real = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size"))
        letter = _TYPES.get(kind, "f")
        if letter not in "fh" and kind != b"D":  # D has names as its content
            stored = 0
        expanded = stored if real is None else _decimal(real)
        uid = _decimal(pax[b"uid"]) if b"uid" in pax else _common(header[108:116])
        gid = _decimal(pax[b"gid"]) if b"gid" in pax else _common(header[116:124])
        link = pax.get(b"linkpath") or header[157:257].partition(b"\0")[0]
        mtime = _seconds(pax[b"mtime"]) if b"mtime" in pax else float(_number(header[136:148]))
        mode = _common(header[100:108]) & 0o7777
        return Member(normalised(path), letter, expanded, uid, gid, link, mode, mtime, stored, _sparse(pax))


def normalised(path: bytes) -> bytes:
    """A member's name without leading './' and trailing '/'; the root itself is empty. One that no system can have is
    left as it is: it may be nothing but millions of these."""
    if len(path) > _MAX_NAME:
        return path
    at = 0
    while path.startswith(b"./", at):
        at += 2
        while path.startswith(b"/", at):
            at += 1
    path = path[at:].rstrip(b"/")
    return b"" if path == b"." else path


def _sparse(pax: dict[bytes, bytes]) -> str | None:
    if pax.get(b"GNU.sparse.major") == b"1":
        return "1.0"
    if b"GNU.sparse.map" in pax:
        if len(pax[b"GNU.sparse.map"]) > _MAX_MAP:
            raise ArchiveDamaged("The tar archive holds a map of a sparse file larger than 4 MiB")
        return pax[b"GNU.sparse.map"].decode("ascii", "replace")
    if b"GNU.sparse.numblocks" in pax:  # pax format 0.0, whose map repeats one key
        raise ArchiveDamaged("The tar archive holds a sparse file in pax format 0.0, which is not supported")
    return None


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError as error:
        raise ArchiveDamaged("The tar archive holds an extended header with a malformed time") from error
    if not abs(seconds) < 1 << 40:
        raise ArchiveDamaged("The tar archive holds an extended header with an impossible time")
    return seconds


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base-256, for what octal digits cannot hold
        return _bounded(int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big"))
    text = field.strip(b" \0")
    if not text:
        return 0
    try:
        if text.isdigit():
            return int(text, 8)
    except ValueError:
        pass
    raise ArchiveDamaged("The tar archive holds a header with a malformed number")


_common = lru_cache(256)(_number)  # of what most members of an archive share


def _decimal(value: bytes) -> int:
    if not (value.isdigit() and len(value) <= _MAX_DIGITS):
        raise ArchiveDamaged("The tar archive holds an extended header with a malformed number")
    return _bounded(int(value))


def _bounded(number: int) -> int:
    """What a member list can hold."""
    if number >= 1 << 63:
        raise ArchiveDamaged("The tar archive holds a header with an impossible number")
    return number


def _check(header: bytes) -> None:
    """The sum of all bytes, its own field counted as spaces. adler32's low half is 1 + a sum modulo 65,521, which
    no 256 bytes reach: a hundred times faster than adding up in Python."""
    told = header[148:156]
    found = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2
    if _number(told) != found - sum(told) + _EIGHT_SPACES:
        raise ArchiveDamaged("The tar archive holds a header with a wrong checksum")


def _pax_records(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Those that tell something here."""
    position = 0
    while position < len(payload):
        space = payload.find(b" ", position)
        digits = payload[position:space]
        length = _decimal(digits)
        if space < 0 or length < space - position + 3:
            raise ArchiveDamaged("The tar archive holds a malformed extended header")
        end = position + length
        key, equals, value = payload[space + 1 : end - 1].partition(b"=")
        if not equals or end > len(payload):
            raise ArchiveDamaged("The tar archive holds a malformed extended header")
        if key in _KEYS:
            yield key, value
        position = end


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are a tar header: their checksum is right."""
    if len(block) != BLOCK or block == _ZERO:
        return False
    try:
        _check(block)
    except ArchiveDamaged:
        return False
    return True
