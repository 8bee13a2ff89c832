"""INSERTs that are larger than what a server takes at once, as many smaller statements.

Statements of many rows, as large as the server took that they come from, are cut between two rows. A dump writes a
BLOB as hexadecimal, which doubles it: a single row may not fit into one packet either. Its long values are put
together in variables of the session first, piece by piece:

    SET @liberu_1 = 0x00ff…; SET @liberu_1 = CONCAT(@liberu_1, 0x5c0a…); INSERT INTO `t` VALUES (1,@liberu_1);
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.errors import LoadFailed

#: A shorter value stays where it is.
_SHORT = 4 << 10
_SHORT_TEXT = rb"'(?:[^'\\]|\\.|''){0,%d}+'(?=[^'])|\"(?:[^\"\\]|\\.|\"\"){0,%d}+\"(?=[^\"])" % (_SHORT, _SHORT)
#: What of a statement is no long value, up to where one may begin.
_PLAIN = re.compile(
    rb"(?:[^'\"`0]++|`[^`]*+`|(?<=[\w$])0|(?<![\w$])0(?:(?!x)|x[0-9A-Fa-f]{0,%d}+(?=[^0-9A-Fa-f]))|%b)++"
    % (_SHORT, _SHORT_TEXT),
    re.DOTALL,
)
#: Up to a statement's first row; and the next parenthesis, in none of its names and short texts.
_HEAD = re.compile(
    rb"\s*+\w+\s+(?:IGNORE\s+)?INTO\s+(?:`[^`]*+`|[\w$])++\s*+(?:\((?:[^()'\"`]++|`[^`]*+`)*+\)\s*+)?VALUES?\s*+",
    re.IGNORECASE,
)
_NEXT = re.compile(rb"(?:[^()'\"`]++|`[^`]*+`|%b)*+([()])" % _SHORT_TEXT, re.DOTALL)
_HEX = re.compile(rb"[0-9A-Fa-f]*+")
_TEXT = {
    b"'": re.compile(rb"(?:[^'\\]++|\\.|'')*+", re.DOTALL),
    b'"': re.compile(rb'(?:[^"\\]++|\\.|"")*+', re.DOTALL),
}
_TABLE = re.compile(rb"\w+\s+(?:IGNORE\s+)?INTO\s+(`[^`\n]{1,64}`)", re.IGNORECASE)
#: Before a text, its character set.
_INTRODUCER = re.compile(rb"_[a-z0-9]+\s*\Z", re.IGNORECASE)
_AT_ONCE = 1 << 20
#: Of a packet, beside the statement.
_AROUND = 4 << 10
#: A statement is waited for up to so many bytes; a larger one need not be cut, and is.
_MAX_HELD = 16 << 20
_END = re.compile(rb";\n")


class Inserts:
    """INSERTs on their way into a server: each as it is, unless it is too large. `packet`: the server's
    max_allowed_packet in bytes; 0: it is not known, and all pass."""

    def __init__(self, packet: int = 0) -> None:
        self._packet = packet
        self._limit = min(packet - _AROUND, _MAX_HELD)
        self._held: list[bytes] = []
        self._size = 0
        self._long: LongRows | None = None

    def feed(self, piece: bytes, *, done: bool, lines: bool = False) -> Iterator[bytes]:
        """`done`: a statement ends with it. `lines`: it is whole lines, of one or more statements; else of one."""
        if not self._packet:
            yield piece
            return
        start = 0
        for end in self._ends(piece, done=done, lines=lines):
            yield from self._part(piece[start:end])
            yield from self.finish()
            start = end
        if start < len(piece):
            yield from self._part(piece[start:])

    def finish(self) -> Iterator[bytes]:
        if self._long is not None:
            yield from self._long.finish()
            self._long = None
        elif self._held:
            yield b"".join(self._held)
        self._held, self._size = [], 0

    def _ends(self, piece: bytes, *, done: bool, lines: bool) -> list[int]:
        if not lines:
            return [len(piece)] if done else []
        if self._long is None and self._size + len(piece) <= self._limit:
            last = len(piece) if done else piece.rfind(b";\n") + 2
            return [last] if last > 1 else []
        ends = [found.end() for found in _END.finditer(piece)]
        return [*ends, len(piece)] if done and ends[-1:] != [len(piece)] else ends

    def _part(self, data: bytes) -> Iterator[bytes]:
        if self._long is None:
            self._held.append(data)
            self._size += len(data)
            if self._size <= self._limit:
                return
            self._long, data = LongRows(self._packet), b"".join(self._held)
            self._held = []
        yield from self._long.feed(data)


class LongRows:
    """One INSERT: `feed` and `finish` yield statements. `packet`: the server's max_allowed_packet in bytes, of which
    no value may be longer either. Raises LoadFailed."""

    def __init__(self, packet: int) -> None:
        self._packet = packet
        self._limit = packet - _AROUND
        self._piece = min(_AT_ONCE, packet // 4)
        self._buffer = b""
        self._at = 0
        self._statement = bytearray()
        self._head: bytes | None = None  # of every statement that it is cut into; empty: it cannot be
        self._depth = 0  # of parentheses
        self._closed = 0  # where in the statement the last row ended
        self._row: tuple[int, int, int] | None = None  # the last cut that may be: from, to, variables before it
        self._was_cut = False
        self._quote = b""  # the open value's: ' or " or 0 for hexadecimal
        self._made = 0  # bytes of the open value that are in its variable
        self._introducer = b""
        self._variables = 0
        self._forgotten = 0  # of the variables

    def feed(self, data: bytes) -> Iterator[bytes]:
        seen = max(0, self._at - 1)  # one byte is looked back at
        self._buffer = self._buffer[seen:] + data
        self._at -= seen
        yield from self._work(final=False)

    def finish(self) -> Iterator[bytes]:
        yield from self._work(final=True)
        if self._was_cut and bytes(self._statement[self._closed :]).strip() not in (b"", b";"):
            raise LoadFailed(
                f"A statement of the dump is larger than the {self._packet} bytes that the server takes "
                "(max_allowed_packet), and what it does with its rows depends on all of them"
            )
        yield bytes(self._statement) + b"\n"
        yield from self._forget(self._variables)

    def _forget(self, variables: int) -> Iterator[bytes]:
        """Their statement is over."""
        for number in range(self._forgotten + 1, variables + 1):
            yield b"SET @liberu_%d = NULL;\n" % number
        self._forgotten = variables

    def _work(self, *, final: bool) -> Iterator[bytes]:
        while self._at < len(self._buffer):
            before = self._at, self._quote
            if self._quote:
                yield from self._value(final=final)
            else:
                yield from self._between(final=final)
            if before == (self._at, self._quote):
                return

    def _between(self, *, final: bool) -> Iterator[bytes]:
        found = _PLAIN.match(self._buffer, self._at)
        end = found.end() if found else self._at
        start = self._buffer[end : end + 2]
        skipped = 0
        if not start and not final and self._buffer.endswith(b"0"):  # an x may follow
            end = max(self._at, end - 1)
        elif len(start) == 1 and not final:
            pass
        elif start == b"0x":
            self._quote, skipped = b"0", 2
        elif start[:1] in _TEXT:
            self._quote, skipped = start[:1], 1
        elif start and (start[:1] != b"`" or final):
            raise LoadFailed(f"A row of the dump that is larger than {self._packet} bytes is not understood")
        scanned = len(self._statement)
        self._statement += self._buffer[self._at : end]
        self._at = end + skipped
        yield from self._cut_rows(scanned)
        if len(self._statement) > self._packet:
            raise LoadFailed(
                f"A statement of the dump is larger than the {self._packet} bytes that the server takes "
                "(max_allowed_packet), without its long values"
            )

    def _cut_rows(self, start: int) -> Iterator[bytes]:
        """Statements of whole rows, as large as may be. `start`: from where on the statement was not looked at."""
        text = self._statement
        if self._head is None:
            found = _HEAD.match(text)
            self._head, start = (found[0], found.end()) if found else (b"", 0)
        if not self._head:
            return
        begun, before = 0, b""
        while found := _NEXT.match(text, start):
            at, start = found.start(1), found.end()
            if found[1] == b")":
                self._depth -= 1
                self._closed = at + 1 if self._depth == 0 else self._closed
                continue
            self._depth += 1
            if self._depth > 1 or not self._closed or text[self._closed : at].strip() != b",":
                continue
            if self._row is not None and len(before) + self._closed - begun > self._limit:
                yield before + bytes(text[begun : self._row[0]]) + b";\n"
                yield from self._forget(self._row[2])
                begun, before = self._row[1], self._head
            self._row = (self._closed, at, self._variables)
        if self._row is not None and len(before) + len(text) - begun > self._limit:
            yield before + bytes(text[begun : self._row[0]]) + b";\n"
            yield from self._forget(self._row[2])
            begun, before = self._row[1], self._head
        if not begun:
            return
        shift = len(before) - begun
        self._statement = bytearray(before + text[begun:])
        self._was_cut = True
        self._closed = max(0, self._closed + shift) if self._closed > begun else 0
        if self._row is not None:
            kept, to, variables = self._row
            self._row = None if to <= begun else (kept + shift, to + shift, variables)

    def _value(self, *, final: bool) -> Iterator[bytes]:
        hexadecimal = self._quote == b"0"
        found = (_HEX if hexadecimal else _TEXT[self._quote]).match(self._buffer, self._at)
        assert found is not None
        size = found.end() - self._at
        #: A closing quote is told from a doubled one by what follows it.
        ended = final or found.end() + (0 if hexadecimal else 1) < len(self._buffer)
        apart = self._made or size > _SHORT
        while size >= self._piece or (ended and apart and size):
            end = self._cut(min(size, self._piece))
            yield self._assigned(self._buffer[self._at : end])
            size -= end - self._at
            self._at = end
        if not ended:
            return
        closing = b"" if hexadecimal else self._quote
        if self._made:
            self._statement += b"@liberu_%d" % self._variables
        else:
            value = self._buffer[self._at : self._at + size]
            self._statement += (b"0x" if hexadecimal else closing) + value + closing
        self._at += size + len(closing)
        self._quote, self._made = b"", 0

    def _cut(self, size: int) -> int:
        """Where: not within a byte, a character, an escaped one or a doubled quote."""
        if self._quote == b"0":
            return self._at + (size if size == 1 else size & ~1)
        found = _TEXT[self._quote].match(self._buffer, self._at, self._at + size)
        assert found is not None
        end = found.end()
        while end > self._at + 1 and self._buffer[end : end + 1] and self._buffer[end] & 0xC0 == 0x80:
            end -= 1
        return end

    def _assigned(self, piece: bytes) -> bytes:
        if not self._made:
            self._variables += 1
            introducer = _INTRODUCER.search(self._statement)
            self._introducer = introducer[0] if introducer else b""
            del self._statement[len(self._statement) - len(self._introducer) :]
        if self._quote == b"0":
            written, length = b"0x" + piece, len(piece) // 2
        else:
            written = self._introducer + self._quote + piece + self._quote
            pairs = piece.replace(b"\\\\", b".")
            length = len(pairs) - pairs.count(b"\\")
        self._made += length
        if self._made > self._packet:  # CONCAT would make NULL of it
            table = _TABLE.match(self._statement)
            raise LoadFailed(
                f"The dump has a value larger than the {self._packet} bytes that the server takes "
                f"(max_allowed_packet) in {table[1].decode('utf-8', 'replace') if table else 'one of its tables'}"
            )
        name = b"@liberu_%d" % self._variables
        value = b"CONCAT(%b, %b)" % (name, written) if self._made > length else written
        return b"SET %b = %b;\n" % (name, value)
