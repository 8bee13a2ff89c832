"""Reading a foreign archive into the staged index, once and to its last byte. Blocking: runs in a thread."""

from __future__ import annotations

from dataclasses import replace

from app.archives.streams import CHUNK
from app.archives.tar import BLOCK, Member, TarScanner
from app.errors import ArchiveDamaged, ArchiveInvalid, ForeignArchiveError, FormatUnknown
from app.external.containers import Expanded, Peeked, Readable, sniff
from app.external.items import MAX_LINK, Item, key, shown, usable
from app.external.limits import Budget
from app.external.staged import Staged
from app.external.zips import ZipArchive


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
        compressed is not copied. Errors name it."""
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
        except ForeignArchiveError as error:
            self._staged.rollback()
            raise type(error)(f"{shown(item.path)}: {error.message}") from error
        except BaseException:
            self._staged.rollback()
            raise
        self._staged.mark(fact, "whole")

    def _any(self, source: Peeked, prefix: bytes, depth: int) -> None:
        self._budget.nested(depth)
        head = source.peek()
        if not head:
            raise FormatUnknown("There is nothing in it: it is empty (0 bytes)")
        kind = sniff(head)
        if kind == "tar":
            self._tar(source, prefix)
        elif kind == "zip":
            self._zip(source, prefix)
        elif kind == "data":
            while data := source.read(CHUNK):  # damage would be the better answer
                self._budget.tick(len(data))
            raise FormatUnknown("This is no archive: neither tar nor zip, gzip, bzip2, xz or zstd")
        else:
            self._any(Peeked(Expanded(source, kind, self._budget)), prefix, depth + 1)

    def _tar(self, source: Readable, prefix: bytes, in_place: int | None = None) -> None:
        """`in_place`: where in the content file `source` lies."""
        staged, scanner, position = self._staged, TarScanner(), 0
        while block := _exactly(source, BLOCK):
            position += BLOCK
            self._budget.tick(BLOCK)
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
            self._budget.tick(len(data))
        return padded

    def _zip(self, source: Readable, prefix: bytes) -> None:
        """A zip's list of members stands at its end: it is kept on disk first."""
        path = self._staged.folder / "zip"
        try:
            with path.open("wb") as file:
                path.chmod(0o600)
                while data := source.read(CHUNK):
                    self._budget.tick(len(data))
                    self._staged.need(len(data))
                    file.write(data)
            for member, content in ZipArchive(path, self._budget).members():
                offset, link = self._staged.end, b""
                for data in content:
                    if member.type == "l":
                        link = (link + data)[: MAX_LINK + 1]
                    elif usable(member.path) is not None:
                        self._staged.write(data)
                self._staged.add(replace(member, link=link), prefix, offset)
        finally:
            path.unlink(missing_ok=True)


def _exactly(source: Readable, size: int) -> bytes:
    """So many bytes, fewer only at the end."""
    data = source.read(size)
    while data and len(data) < size and (more := source.read(size - len(data))):
        data += more
    if 0 < len(data) < size:
        raise ArchiveInvalid("The tar archive is cut in the middle of a header")
    return data
