"""Reading a foreign archive into the staged index, once and to its last byte. Blocking: runs in a thread."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import BinaryIO

from app.archives.streams import CHUNK
from app.archives.tar import BLOCK, Member, TarScanner
from app.errors import ArchiveDamaged, ArchiveEncrypted, ArchiveInvalid, FormatUnknown
from app.external.containers import Expanded, Peeked, Readable, sniff
from app.external.items import Item, key, shown, usable
from app.external.limits import Budget
from app.external.staged import Staged

#: What zipfile and its decompressors raise for archives that are not sound.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, EOFError, ValueError, OverflowError,
    OSError, KeyError, IndexError,
)  # fmt: skip
_UNIX = 3
_ENCRYPTED = 1
_LINK, _FOLDER = 0o120000, 0o040000


class Unpacker:
    """One archive, and what is nested in it, against one budget."""

    def __init__(self, staged: Staged, budget: Budget) -> None:
        self._staged = staged
        self._budget = budget

    def unpack(self, source: Readable) -> None:
        """Raises FormatUnknown when it is no archive; ArchiveInvalid, ArchiveEncrypted, FormatUnsupported,
        ImportLimitExceeded."""
        self._any(Peeked(source), b"", 0)

    def expand(self, item: Item, into: str) -> None:
        """Index what is in a nested archive below the folder `into`, once: whole, or nothing of it. What is not
        compressed is not copied."""
        fact = f"expanded {shown(item.path)} into {shown(into)}"
        if self._staged.fact(fact) is not None:
            return
        prefix = key(into) + b"/"
        self._staged.commit()
        try:
            with self._staged.raw(item) as stored:
                peeked = Peeked(stored)
                if item.sparse is None and sniff(peeked.peek()) == "tar":
                    self._tar(peeked, prefix, in_place=item.offset)
                else:
                    self._any(peeked, prefix, 1)
        except BaseException:
            self._staged.rollback()
            raise
        self._staged.mark(fact, "whole")

    def _any(self, source: Peeked, prefix: bytes, depth: int) -> None:
        self._budget.nested(depth)
        kind = sniff(source.peek())
        if kind == "tar":
            self._tar(source, prefix)
        elif kind == "zip":
            self._zip(source, prefix)
        elif kind == "data":
            while source.read(CHUNK):  # damage would be the better answer
                pass
            raise FormatUnknown("This is no archive: neither tar nor zip, gzip, bzip2, xz or zstd")
        else:
            self._any(Peeked(Expanded(source, kind, self._budget)), prefix, depth + 1)

    def _tar(self, source: Readable, prefix: bytes, in_place: int | None = None) -> None:
        """`in_place`: where in the content file `source` lies."""
        staged, scanner, position = self._staged, TarScanner(), 0
        while block := _exactly(source, BLOCK):
            position += BLOCK
            try:
                found = list(scanner.feed(block))
            except ArchiveDamaged as error:
                raise ArchiveInvalid(f"{error.message}, {position} bytes from its beginning") from error
            for member in found:
                self._budget.member(member.size if member.type in "fh" else 0)
                offset = staged.end if in_place is None else in_place + position
                staged.add(member, prefix, offset)
                position += self._content(source, scanner, member, keep=in_place is None)
        if not scanner.ended:
            raise ArchiveInvalid("The tar archive is cut: it has no end-of-archive marker")

    def _content(self, source: Readable, scanner: TarScanner, member: Member, *, keep: bool) -> int:
        """Pass a member's content and its padding; how many bytes."""
        padded = -(-member.stored // BLOCK) * BLOCK
        wanted = keep and usable(member.path) is not None
        left, kept = padded, member.stored
        while left:
            data = source.read(min(left, CHUNK))
            if not data:
                raise ArchiveInvalid(f"The tar archive is cut: it ends within {shown(member.path)}")
            list(scanner.feed(data))
            if wanted and kept:
                self._staged.write(data[:kept])
                kept -= min(kept, len(data))
            left -= len(data)
        return padded

    def _zip(self, source: Readable, prefix: bytes) -> None:
        """A zip's list of members stands at its end: it is kept on disk first."""
        path = self._staged.folder / "zip"
        with path.open("w+b") as file:
            path.chmod(0o600)
            while data := source.read(CHUNK):
                self._budget.expanded(len(data), len(data))
                file.write(data)
            try:
                self._zip_file(file, prefix)
            except _ZIP_ERRORS as error:
                raise ArchiveInvalid(f"The zip archive is damaged or of an unknown kind: {error}") from error
        path.unlink()

    def _zip_file(self, file: BinaryIO, prefix: bytes) -> None:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.flag_bits & _ENCRYPTED:
                    raise ArchiveEncrypted("The zip archive is encrypted: unpack it with its password first")
                self._budget.member(info.file_size)
                offset, size, start = self._staged.end, 0, b""
                member = _zip_member(info)
                with archive.open(info) as content:  # whose end checks the CRC
                    while data := content.read(CHUNK):
                        size += len(data)
                        if size > info.file_size:
                            raise ArchiveInvalid(f"{info.filename} is longer than the zip archive says")
                        if member.type == "l":
                            start += data[:4096]
                        elif usable(member.path) is not None:
                            self._staged.write(data)
                if size != info.file_size:
                    raise ArchiveInvalid(f"{info.filename} is shorter than the zip archive says")
                self._staged.add(replace(member, link=start[:4096]), prefix, offset)


def _zip_member(info: zipfile.ZipInfo) -> Member:
    """`zipfile` reads names as cp437 when they are not marked as UTF-8."""
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    name = info.filename.encode(encoding, "surrogateescape")
    if info.create_system != _UNIX and b"/" not in name:
        name = name.replace(b"\\", b"/")  # as some Windows tools do, against APPNOTE.TXT 4.4.17
    folder = info.is_dir() or name.endswith(b"/")
    name = name.removeprefix(b"./")
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = "d" if folder or mode & 0o170000 == _FOLDER else "l" if mode & 0o170000 == _LINK else "f"
    size = info.file_size if kind == "f" else 0
    permissions = mode & 0o7777 or (0o755 if kind == "d" else 0o644)
    return Member(name.rstrip(b"/"), kind, size, 0, 0, b"", permissions, _time(info), size)


def _time(info: zipfile.ZipInfo) -> float:
    """Of the DOS clock, which knows no zone, taken as UTC."""
    try:
        return datetime(*info.date_time, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _exactly(source: Readable, size: int) -> bytes:
    """So many bytes, fewer only at the end."""
    data = source.read(size)
    while data and len(data) < size and (more := source.read(size - len(data))):
        data += more
    if 0 < len(data) < size:
        raise ArchiveInvalid("The tar archive is cut in the middle of a header")
    return data
