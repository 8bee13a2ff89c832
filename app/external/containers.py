"""What a file is by its first bytes, and the plain bytes inside a compressed one, proven to the last.

Sources: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file format 1.2.1, bzip2's block magic, POSIX ustar, APPNOTE.TXT
(zip), RFC 9580 (OpenPGP packets).
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, Literal, Protocol

import zstandard

from app.archives.tar import BLOCK, is_header
from app.errors import ArchiveEncrypted, ArchiveInvalid, FormatUnsupported
from app.external.limits import Budget

Kind = Literal["tar", "gzip", "bzip2", "xz", "zstd", "zip", "data"]
HEAD = 1024
_PIECE = 256 << 10
#: One block of 4 bytes may stand for 128 KiB: what goes in at once bounds what comes out at once.
ZSTD_PIECE = 2 << 10
MAX_WINDOW = 128 << 20
_MAGIC: dict[bytes, Kind] = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}  # fmt: skip
_MIME = re.compile(rb"\A(?:[A-Za-z-]+: [^\n]*\n)*(?:MIME-Version|Content-Type): ", re.IGNORECASE)
#: What Virtualmin keeps beside a backup: Webmin's serialised variables (.info), or KEY=VALUE lines (.dom).
_SIDECAR = re.compile(rb"\A(?:HASH|ARRAY),(?:VAL|HASH|ARRAY|UNDEF)(?:%2C|,)|\A(?:[a-z_]{1,40}=[^\n]*\n)*dom=", re.I)


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def compression(head: bytes) -> Kind | None:
    """Of something that need not be an archive."""
    return next((kind for magic, kind in _MAGIC.items() if kind != "zip" and head.startswith(magic)), None)


def sniff(head: bytes) -> Kind:
    """Raises ArchiveEncrypted, FormatUnsupported; "data" when it is nothing we know."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if len(head) >= BLOCK and (is_header(head[:BLOCK]) or head[:BLOCK] == bytes(BLOCK)):
        return "tar"
    if head.startswith(b"-----BEGIN PGP") or _is_openpgp(head):
        raise ArchiveEncrypted("The archive is encrypted (OpenPGP): decrypt it with gpg and import what comes out")
    if _MIME.match(head):
        raise FormatUnsupported("This is a MIME dump, as Plesk 7 and 8 made them: import it with a newer Plesk first")
    if _SIDECAR.match(head):
        raise FormatUnsupported(
            "This is Virtualmin's note about a backup (.info or .dom), not the backup: import the archive beside it"
        )
    return "data"


def _is_openpgp(head: bytes) -> bool:
    """A session key packet (1 or 3) whose version follows."""
    if len(head) < 8 or not head[0] & 0x80:
        return False
    if head[0] & 0x40:
        tag, at = head[0] & 0x3F, 2 if head[1] < 192 else 3 if head[1] < 224 else 6
    else:
        tag, at = head[0] >> 2 & 0xF, 1 + (1, 2, 4, 0)[head[0] & 3]
    return (tag == 1 and head[at] in (3, 6)) or (tag == 3 and head[at] in (4, 5, 6))


class Peeked(io.RawIOBase):
    """A reader whose first bytes can be looked at."""

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source
        self._ahead = b""

    def peek(self, size: int = HEAD) -> bytes:
        while len(self._ahead) < size and (data := self._source.read(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def read(self, size: int = -1, /) -> bytes:
        if self._ahead:
            size = len(self._ahead) if size < 0 else size
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._source.read(size)


class Expanded(io.RawIOBase):
    """The plain bytes of a compressed stream, member after member. Raises ArchiveInvalid for one that is cut, damaged
    or followed by something else, ImportLimitExceeded."""

    def __init__(self, source: Readable, kind: Kind, budget: Budget) -> None:
        super().__init__()
        self._source = source
        self._kind = kind
        self._budget = budget
        self._decoder: Any = _DECODERS[kind]()
        self._input = b""
        self._output = b""
        self._at = 0
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            raise ValueError("a bounded read is needed")
        while self._at >= len(self._output) and not self._ended:
            self._output, self._at = b"", 0
            self._more()
        data = self._output[self._at : self._at + size]
        self._at += len(data)
        return data

    def _more(self) -> None:
        if self._decoder.eof:
            self._next_member()
            return
        taken = b""
        if self._decoder.needs_input:
            taken = self._take()
            if not taken:
                raise ArchiveInvalid(f"The archive is cut: its {self._kind} stream ends in the middle")
        try:
            self._output = self._decoder.decompress(taken, _PIECE)
        except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise ArchiveInvalid(f"The archive is damaged: its {self._kind} stream is not valid ({error})") from error
        self._budget.expanded(len(taken), len(self._output))

    def _take(self) -> bytes:
        if not self._input:
            self._input = self._source.read(_PIECE)
        size = ZSTD_PIECE if self._kind == "zstd" else _PIECE
        taken, self._input = self._input[:size], self._input[size:]
        return taken

    def _next_member(self) -> None:
        rest = self._decoder.unused_data + self._input
        while not rest.strip(b"\0") and (data := self._source.read(_PIECE)):  # tapes and FTP pad with zeros
            rest = data
        rest = rest.lstrip(b"\0")
        self._input = b""
        if not rest:
            self._ended = True
            return
        magic = next(magic for magic, kind in _MAGIC.items() if kind == self._kind)
        skippable = self._kind == "zstd" and rest[1:4] == b"\x2a\x4d\x18" and rest[0] & 0xF0 == 0x50
        if not rest.startswith(magic[: len(rest)]) and not skippable:
            raise ArchiveInvalid(f"Something that is not {self._kind} follows the archive's end")
        self._decoder, self._input = _DECODERS[self._kind](), rest


class Inflated:
    """zlib's object with the interface of the others. `wbits`: 31 for gzip, whose CRC and length it checks itself;
    -15 for what is bare, as in a zip."""

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail or data, max_length)


class Zstd:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()

    needs_input = True

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return bytes(self._inner.decompress(data))


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": Inflated,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=MAX_WINDOW),
    "zstd": Zstd,
}
