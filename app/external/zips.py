"""Zip archives, entry by entry: their directory is read where it lies, never held.

Source: APPNOTE.TXT 6.3.10 (4.3 the records, 4.4 their fields, 4.5.3 ZIP64, 5.8.8 LZMA).
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from app.archives.streams import CHUNK
from app.archives.tar import Member
from app.errors import ArchiveEncrypted, ArchiveInvalid
from app.external.containers import MAX_WINDOW, ZSTD_PIECE, Inflated, Zstd
from app.external.items import shown
from app.external.limits import Budget

_ENTRY = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s5HL2L2H")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_MAX_COMMENT = 65_535
_UNKNOWN = 0xFFFFFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UNIX = 3
_LINK, _FOLDER = 0o120000, 0o040000
_LZMA_HEADER = 9
_STORED, _ZSTD = 0, 93
_DAMAGE = (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class Entry:
    """`packed` and `size` in bytes, `offset` of its local header."""

    name: bytes
    system: int
    flags: int
    method: int
    moment: tuple[int, int]
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int

    def member(self, *, windows: bool) -> Member:
        """`windows`: backslashes separate folders, as some tools there write them against APPNOTE.TXT 4.4.17."""
        unix = self.system == _UNIX
        name = self.name.replace(b"\\", b"/") if windows or not unix else self.name
        mode = self.attributes >> 16 if unix else 0
        folder = name.endswith(b"/") or mode & 0o170000 == _FOLDER
        kind = "d" if folder else "l" if mode & 0o170000 == _LINK else "f"
        size = self.size if kind == "f" else 0
        permissions = mode & 0o7777 or (0o755 if kind == "d" else 0o644)
        path = name.removeprefix(b"./").rstrip(b"/")
        return Member(path, kind, size, 0, 0, b"", permissions, _time(*self.moment), size)


class ZipArchive:
    """A zip on disk. Every entry's content is read once, counted against the budget while it is expanded. Raises
    ArchiveInvalid, ArchiveEncrypted, ImportLimitExceeded."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self._path = path
        self._budget = budget
        with path.open("rb") as file:
            self._begin, self._end, count = _directory(file, path.stat().st_size)
        found = slashes = backslashes = taken = 0
        for entry in self._listed():
            if entry.flags & _ENCRYPTED:
                raise ArchiveEncrypted("The zip archive is encrypted: unpack it with its password first")
            found += 1
            slashes += b"/" in entry.name
            backslashes += b"\\" in entry.name
            taken += _LOCAL.size + len(entry.name) + entry.packed
        if count not in (found, found & 0xFFFF):
            raise ArchiveInvalid(f"The zip archive is damaged: it says {count} members and lists {found}")
        if taken > self._begin:
            raise ArchiveInvalid("The zip archive is damaged: its members lie over each other")
        self._windows = bool(backslashes and not slashes)

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each with its content, which is to be read to its end before the next one is asked for."""
        with self._path.open("rb") as file:
            for entry in self._listed():
                self._budget.member(entry.size)
                yield entry.member(windows=self._windows), self._content(file, entry)

    def _listed(self) -> Iterator[Entry]:
        with self._path.open("rb") as file:
            file.seek(self._begin)
            left = self._end - self._begin
            while left > 0:
                self._budget.tick()
                fields = _unpacked(_ENTRY, file, b"PK\x01\x02")
                names, extra, comment = fields[12:15]
                name, more = file.read(names), file.read(extra)
                file.seek(comment, 1)
                left -= _ENTRY.size + names + extra + comment
                if left < 0 or len(more) < extra:
                    raise ArchiveInvalid("The zip archive is damaged: its list of members is cut")
                packed, size, offset = _long(more, fields[10], fields[11], fields[18])
                moment = fields[8], fields[7]
                yield Entry(
                    name, fields[2], fields[5], fields[6], moment, fields[9], packed, size, fields[17], offset
                )

    def _content(self, file: BinaryIO, entry: Entry) -> Iterator[bytes]:
        name = shown(entry.name[:200])
        file.seek(entry.offset)
        fields = _unpacked(_LOCAL, file, b"PK\x03\x04")
        if file.read(fields[9]) != entry.name:
            raise ArchiveInvalid(f"The zip archive is damaged: {name} has another name in its own header")
        file.seek(fields[10], 1)
        if file.tell() + entry.packed > self._begin:
            raise ArchiveInvalid(f"The zip archive is damaged: {name} reaches beyond its end")
        size = crc = 0
        try:
            for data in self._expanded(file, entry):
                size += len(data)
                crc = zlib.crc32(data, crc)
                if size > entry.size:
                    raise ArchiveInvalid(f"{name} is longer than the zip archive says")
                yield data
        except _DAMAGE as error:
            raise ArchiveInvalid(f"The zip archive is damaged: {name} cannot be expanded ({error})") from error
        if size != entry.size:
            raise ArchiveInvalid(f"{name} is shorter than the zip archive says")
        if crc != entry.crc:
            raise ArchiveInvalid(f"The zip archive is damaged: {name} has a wrong checksum")

    def _expanded(self, file: BinaryIO, entry: Entry) -> Iterator[bytes]:
        left = entry.packed
        if entry.method == _STORED:
            while left and (data := file.read(min(left, CHUNK))):
                left -= len(data)
                self._budget.tick(len(data))
                yield data
            return
        decoder: Any
        if entry.method == 14:
            header = file.read(min(left, _LZMA_HEADER))
            left -= len(header)
            decoder = _lzma(header)
        elif entry.method in _DECODERS:
            decoder = _DECODERS[entry.method]()
        else:
            raise ArchiveInvalid(
                f"{shown(entry.name[:200])} is compressed in a way that is not known here (method {entry.method}): "
                "pack the archive anew, as zip or tar.gz"
            )
        piece = ZSTD_PIECE if entry.method == _ZSTD else CHUNK // 4
        while not decoder.eof:
            taken = file.read(min(left, piece)) if decoder.needs_input else b""
            left -= len(taken)
            data = decoder.decompress(taken, CHUNK)
            self._budget.expanded(len(taken), len(data))
            if data:
                yield data
            elif not taken and decoder.needs_input:
                return  # cut, or of a kind that tells no end: its size and checksum say which


_DECODERS = {8: lambda: Inflated(-15), 12: bz2.BZ2Decompressor, _ZSTD: Zstd}


def _lzma(header: bytes) -> lzma.LZMADecompressor:
    if len(header) < _LZMA_HEADER or header[2:4] != b"\x05\0" or header[4] >= 225:
        raise ArchiveInvalid("The zip archive is damaged: an LZMA member has no header")
    size = int.from_bytes(header[5:9], "little")
    if size > MAX_WINDOW:
        raise ArchiveInvalid("The zip archive needs more memory than is given to it: pack it anew")
    level, positions = header[4] % 45, header[4] // 45
    filters = [{"id": lzma.FILTER_LZMA1, "lc": level % 9, "lp": level // 9, "pb": positions, "dict_size": size}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the list of members begins and ends, and how many it says there are."""
    start = max(0, size - _END.size - _MAX_COMMENT)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
    if at < 0:
        raise ArchiveInvalid("The zip archive is cut: its list of members, which stands at the end, is not there")
    _, disk, first, _, count, length, offset, _ = _END.unpack_from(tail, at)
    end = start + at
    locator = end - _LOCATOR.size
    if locator >= 0 and (count == 0xFFFF or _UNKNOWN in (length, offset)):
        file.seek(locator)
        found = file.read(_LOCATOR.size)
        if found.startswith(b"PK\x06\x07"):
            end = _LOCATOR.unpack(found)[2]
            if end > locator - _END64.size:
                raise ArchiveInvalid("The zip archive is damaged: its end is not where it says")
            file.seek(end)
            _, _, _, _, disk, first, _, count, length, offset = _unpacked(_END64, file, b"PK\x06\x06")
    if disk or first:
        raise ArchiveInvalid("The zip archive is one of several parts: join them first (zip -s 0 … --out …)")
    if offset + length != end:
        raise ArchiveInvalid("The zip archive is damaged: its list of members is not where it says")
    return offset, end, count


def _unpacked(record: struct.Struct, file: BinaryIO, magic: bytes) -> tuple[Any, ...]:
    data = file.read(record.size)
    if len(data) < record.size or not data.startswith(magic):
        raise ArchiveInvalid("The zip archive is damaged: a header is not where it should be")
    return record.unpack(data)


def _long(extra: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """The sizes and the offset that the extra field has where four bytes are too few."""
    values = [size, packed, offset]
    at = 0
    while at + 4 <= len(extra) and _UNKNOWN in values:
        kind, length = struct.unpack_from("<2H", extra, at)
        field, at = extra[at + 4 : at + 4 + length], at + 4 + length
        if kind != 1:
            continue
        for place, value in enumerate(values):
            if value == _UNKNOWN and len(field) >= 8:
                values[place], field = int.from_bytes(field[:8], "little"), field[8:]
        break
    if max(values) >= 1 << 63:
        raise ArchiveInvalid("The zip archive holds a header with an impossible number")
    return values[1], values[0], values[2]


def _time(date: int, moment: int) -> float:
    """Of the DOS clock, which knows no zone, taken as UTC."""
    try:
        day = datetime(1980 + (date >> 9), date >> 5 & 15, date & 31, tzinfo=UTC)
        return day.replace(hour=moment >> 11, minute=moment >> 5 & 63, second=(moment & 31) * 2).timestamp()
    except ValueError:
        return 0.0
