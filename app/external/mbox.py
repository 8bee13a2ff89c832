"""mbox files, message by message, as a maildir has them.

Source: RFC 4155, appendix A; the quoting of From_ lines is undone as mboxrd does it (one ">" of ">From ", ">>From ").
The flags are those that Status and X-Status name, as mail readers write them into such files.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from app.archives.streams import CHUNK

FROM = b"From "
_QUOTED = re.compile(rb">+From ")
_BLANK = (b"\n", b"\r\n")
_HEAD = 64 << 10
_STATUS = re.compile(rb"^(?:X-)?Status:[ \t]*([A-Za-z]*)", re.MULTILINE | re.IGNORECASE)
_FLAGS = {"R": "S", "A": "R", "F": "F", "D": "T", "T": "D"}


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """None where a message begins, then what it holds, without its From_ line and the empty line that ends it."""
    blank: bytes | None = b""  # a line that may belong to the message or end it
    for line in _lines(chunks):
        if line.startswith(FROM) and blank is not None:
            blank = None
            yield None
            continue
        if blank:
            yield blank
        blank = line if line in _BLANK else None
        if blank is None:
            yield line[1:] if _QUOTED.match(line) else line


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """With their ends; of one that is longer than a chunk, parts."""
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True) if rest else chunk.splitlines(keepends=True)
        rest = lines.pop() if lines and len(lines[-1]) < CHUNK else b""
        yield from lines
    if rest:
        yield rest


def measured(chunks: Iterable[bytes], most: int) -> tuple[int, int]:
    """How many messages, and their bytes; no more than one more than `most` are counted."""
    count = size = 0
    for piece in pieces(chunks):
        if piece is None:
            count += 1
            if count > most:
                break
        else:
            size += len(piece)
    return count, size


def messages(chunks: Iterable[bytes], folder: Path) -> Iterator[tuple[bytes, int, IO[bytes]]]:
    """The name in a maildir, the size, and the content of each, which can be read until the next one is asked for;
    what is large is kept in `folder` meanwhile.

    The name is made from the content: the same message has it in every backup, so that a second import adds nothing.
    """
    seen: dict[bytes, int] = {}
    message: _Message | None = None
    try:
        for piece in pieces(chunks):
            if piece is not None:
                if message is not None:
                    message.add(piece)
                continue
            if message is not None:
                yield message.ended(seen)
                message.close()
            message = _Message(folder)
        if message is not None:
            yield message.ended(seen)
    finally:
        if message is not None:
            message.close()


class _Message:
    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=CHUNK, mode="w+b", dir=str(folder))  # noqa: SIM115  see close
        self._hash = hashlib.sha256()
        self._head = b""
        self._size = 0

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)
        if len(self._head) < _HEAD:
            self._head += data

    def ended(self, seen: dict[bytes, int]) -> tuple[bytes, int, IO[bytes]]:
        digest = self._hash.digest()[:12]
        again = seen[digest] = seen.get(digest, -1) + 1
        headers = re.split(rb"\r?\n\r?\n", self._head, maxsplit=1)[0]
        status = {letter for match in _STATUS.findall(headers) for letter in match.decode("ascii").upper()}
        flags = "".join(sorted(_FLAGS[letter] for letter in status if letter in _FLAGS))
        base = f"{digest.hex()}.{again}.mbox"
        name = f"cur/{base}:2,{flags}" if status else f"new/{base}"
        self._file.seek(0)
        return name.encode(), self._size, self._file

    def close(self) -> None:
        self._file.close()
