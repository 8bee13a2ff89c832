"""What a dump of MySQL or MariaDB makes, read as it passes: the names of its objects and how many rows it has of each
table. Whether it would load is not looked at.

A line of a dump begins a statement or goes on with its rows; in strings there are no line ends, as the dump programs
escape them (client/mysqldump.cc of both).
"""

from __future__ import annotations

import re
from collections import Counter

from app.components.mysql_statements import made_by

#: A block begins or ends, or something is made.
_MARKS = re.compile(rb"\n(?:(DELIMITER ;;)|(DELIMITER ;(?=\n))|CREATE |/\*M?!\d{5,6} CREATE)")
#: A statement's beginning up to its name is no longer; so much is looked at again with what comes next.
_BEGINNING = 8 << 10
_INSERT = re.compile(rb"\nINSERT (?:IGNORE )?INTO (`(?:[^`]|``)*+`)(?: \((?:`(?:[^`]|``)*+`|[^`\n)])*+\))? VALUES\b")
_BLOCK, _BLOCK_END = b"\nDELIMITER ;;", b"\nDELIMITER ;\n"
_HEAD = b"\nINSERT "
_HELD = 1 << 10


class DumpContents:
    """Fed with a dump. `made`: kind (`table`, `view`, `trigger`, `event`, `FUNCTION` …) and name of what it makes;
    `rows`: by table, where they are counted."""

    def __init__(self, *, counting: bool = False) -> None:
        self.made: set[tuple[str, str]] = set()
        self._tail = b"\n"
        self._block = False  # where the tail begins
        self._counter = RowCounter() if counting else None

    @property
    def rows(self) -> Counter[str]:
        return self._counter.rows if self._counter else Counter()

    def feed(self, chunk: bytes) -> None:
        """Not on the event loop."""
        text = self._tail + chunk
        block = self._block
        for found in _MARKS.finditer(text):
            start = found.start()
            if found[1] or found[2]:
                block = bool(found[1])
            elif block and not text.endswith(b";;", 0, start):
                continue  # a line of a routine's
            elif made := made_by(text[start + 1 : start + _BEGINNING]):
                self.made.add(made)
            if start < len(text) - _BEGINNING:
                self._block = block
        self._tail = text[-_BEGINNING:]
        if self._counter is not None:
            self._counter.feed(chunk)


class RowCounter:
    """Counts the rows of a dump's INSERTs: an opening parenthesis outside a string begins one."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self._buffer = b"\n"
        self._table = ""  # whose rows are read
        self._lines = False  # each row is a line, as MariaDB's program writes them
        self._inside = False  # of a string
        self._block = False

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while self._work():
            pass

    def _work(self) -> bool:
        """Whether there may be more to do."""
        buffer = self._buffer
        if self._table:
            end = buffer.find(b";\n")
            if end >= 0:
                self._count(buffer[:end])
                self._table, self._inside = "", False
                self._buffer = buffer[end + 1 :]
                return True
            held = len(buffer) - len(buffer.rstrip(b"\\;\n"))
            self._count(buffer[: len(buffer) - held])
            self._buffer = buffer[len(buffer) - held :]
            return False
        if self._block:
            return self._past(_BLOCK_END, b"\n", block=False)
        head, block = buffer.find(_HEAD), buffer.find(_BLOCK)
        if block >= 0 and (head < 0 or block < head):
            return self._past(_BLOCK, b"", block=True)
        if head < 0:
            self._buffer = buffer[-len(_BLOCK) :]
            return False
        found = _INSERT.match(buffer, head)
        if found is not None and found.end() + 2 <= len(buffer):
            self._table = found[1][1:-1].replace(b"``", b"`").decode("utf-8", "replace")
            self._buffer = buffer[found.end() :]
            self._lines = self._buffer.startswith(b"\n(")
            return True
        if len(buffer) - head > _BEGINNING + _HELD:  # no INSERT of a dump program's
            self._buffer = buffer[head + 1 :]
            return True
        self._buffer = buffer[head:]
        return False

    def _past(self, mark: bytes, kept: bytes, *, block: bool) -> bool:
        at = self._buffer.find(mark)
        if at < 0:
            self._buffer = self._buffer[-len(mark) :]
            return False
        self._block = block
        self._buffer = kept + self._buffer[at + len(mark) :]
        return True

    def _count(self, rows: bytes) -> None:
        """`rows` do not end in the middle of an escape."""
        if self._lines:
            self.rows[self._table] += rows.count(b"\n(")
            return
        if b"\\" in rows:
            rows = rows.replace(b"\\\\", b"").replace(b"\\'", b"")
        parts = rows.split(b"'")
        outside = parts[self._inside :: 2]
        self.rows[self._table] += sum(part.count(b"(") for part in outside)
        self._inside ^= not len(parts) & 1
