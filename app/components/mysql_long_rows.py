"""INSERTs that are larger than what a server takes at once, as many smaller statements.

A dump writes a BLOB as hexadecimal, which doubles it, and a row is one statement: what a server holds may not fit
into one packet of it. Its long values are put together in variables of the session first, piece by piece:

    SET @liberu_1 = 0x00ff…; SET @liberu_1 = CONCAT(@liberu_1, 0x5c0a…); INSERT INTO `t` VALUES (1,@liberu_1);
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.errors import LoadFailed

#: What of a statement is no long value, up to where one may begin.
_PLAIN = re.compile(rb"(?:[^'\"`0]++|`[^`]*+`|(?<![\w$])0(?!x)|(?<=[\w$])0)++")
_HEX = re.compile(rb"[0-9A-Fa-f]*+")
_TEXT = {
    b"'": re.compile(rb"(?:[^'\\]++|\\.|'')*+", re.DOTALL),
    b'"': re.compile(rb'(?:[^"\\]++|\\.|"")*+', re.DOTALL),
}
_TABLE = re.compile(rb"\w+\s+(?:IGNORE\s+)?INTO\s+(`[^`\n]{1,64}`)", re.IGNORECASE)
#: Before a text, its character set.
_INTRODUCER = re.compile(rb"_[a-z0-9]+\s*\Z", re.IGNORECASE)
#: A shorter value stays where it is.
_SHORT = 4 << 10
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
        self._piece = min(_AT_ONCE, packet // 4)
        self._buffer = b""
        self._statement = bytearray()
        self._quote = b""  # the open value's: ' or " or 0 for hexadecimal
        self._made = 0  # bytes of the open value that are in its variable
        self._introducer = b""
        self._variables = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        yield from self._work(final=False)

    def finish(self) -> Iterator[bytes]:
        yield from self._work(final=True)
        yield bytes(self._statement) + b"\n"
        for number in range(1, self._variables + 1):
            yield b"SET @liberu_%d = NULL;\n" % number

    def _work(self, *, final: bool) -> Iterator[bytes]:
        while self._buffer:
            before = len(self._buffer)
            if self._quote:
                yield from self._value(final=final)
            else:
                self._between(final=final)
            if len(self._buffer) == before:
                return

    def _between(self, *, final: bool) -> None:
        found = _PLAIN.match(self._buffer)
        end = found.end() if found else 0
        start = self._buffer[end : end + 2]
        if len(start) < 2 and not final:  # nothing can be told of the last bytes yet
            end = min(end, max(0, len(self._buffer) - 2))
            start = b""
        elif start == b"0x":
            self._quote, end = b"0", end + 2
        elif start[:1] in _TEXT:
            self._quote, end = start[:1], end + 1
        elif start[:1] == b"`" and not final:
            start = b""
        elif start:
            raise LoadFailed(f"A row of the dump that is larger than {self._packet} bytes is not understood")
        taken = self._buffer[:end]
        self._buffer = self._buffer[end:]
        if self._quote:
            taken = taken[: -2 if self._quote == b"0" else -1]
        self._statement += taken
        if len(self._statement) > self._packet:
            raise LoadFailed(
                f"A statement of the dump is larger than the {self._packet} bytes that the server takes "
                "(max_allowed_packet), without its long values"
            )

    def _value(self, *, final: bool) -> Iterator[bytes]:
        hexadecimal = self._quote == b"0"
        found = (_HEX if hexadecimal else _TEXT[self._quote]).match(self._buffer)
        assert found is not None
        size = found.end()
        #: A closing quote is told from a doubled one by what follows it.
        ended = final or size + (0 if hexadecimal else 1) < len(self._buffer)
        apart = self._made or size > _SHORT
        while size >= self._piece or (ended and apart and size):
            end = self._cut(min(size, self._piece))
            yield self._assigned(self._buffer[:end])
            self._buffer = self._buffer[end:]
            size -= end
        if not ended:
            return
        closing = b"" if hexadecimal else self._quote
        if self._made:
            self._statement += b"@liberu_%d" % self._variables
        else:
            self._statement += (b"0x" if hexadecimal else closing) + self._buffer[:size] + closing
        self._buffer = self._buffer[size + len(closing) :]
        self._quote, self._made = b"", 0

    def _cut(self, end: int) -> int:
        """Not within a byte, a character, an escaped one or a doubled quote."""
        if self._quote == b"0":
            return end if end == 1 else end & ~1
        found = _TEXT[self._quote].match(self._buffer, 0, end)
        assert found is not None
        end = found.end()
        while end > 1 and self._buffer[end : end + 1] and self._buffer[end] & 0xC0 == 0x80:
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
