"""A PostgreSQL script as it streams: its statements, and the rows of its COPYs.

Source: the PostgreSQL manual, "Lexical Structure" (quoting, dollar quotes, nested comments) and psql's
`src/bin/psql/copy.c` (where the rows of a COPY end). Right for what pg_dump and people write; a script that deceives
it is only split in the wrong place, and what it holds goes to the server all the same (see psql_script).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from app.components.psql_entries import Entry, entry_of
from app.errors import LoadFailed


class Part(Enum):
    """`TEXT`: a piece of a statement. `END`: it has ended. `INSERTS`: several whole ones, up to the last semicolon.
    `ROWS`: a COPY's data, lines that may be cut, without the one that ends them. `ROWS_END`: they have ended."""

    TEXT = 1
    END = 2
    ROWS = 3
    ROWS_END = 4
    INSERTS = 5


Event = tuple[Part, bytes]

#: So much of the input is looked at only when more has come, or its end: no token is cut.
_HOLD = 256
_NOT_IN_NAME = rb"(?<![A-Za-z0-9_$\x80-\xff])"
_QUOTES = (
    rb"['\"\\;]|--|/\*|" + _NOT_IN_NAME + rb"[eE]'|" + _NOT_IN_NAME
    + rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]{0,199})?\$"
)  # fmt: skip
_TOKENS = re.compile(_QUOTES)
_RULE_TOKENS = re.compile(_QUOTES + rb"|[()]")
_ROUTINE_TOKENS = re.compile(
    _QUOTES + rb"|(?<![A-Za-z0-9_$.\x80-\xff])(?:BEGIN\s{1,99}ATOMIC|CASE|END)(?![A-Za-z0-9_$\x80-\xff])",
    re.IGNORECASE,
)
_ROUTINE = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b", re.IGNORECASE)
_RULE = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?RULE\b", re.IGNORECASE)
#: In which nothing needs a closer look: most of a dump, at the speed of the matcher.
_PLAIN = rb"(?:[^'\"$/\\;-]++|(?<![eE])'[^']*+'|\"[^\"]*+\"|-(?=[^-])|/(?=[^*]))*+"
_SKIPPED = re.compile(_PLAIN)
_SIMPLE = re.compile(b"(" + _PLAIN + b");")
_INSERT = re.compile(rb"\s*INSERT\s+INTO\b" + _PLAIN + b";", re.IGNORECASE)
_ESCAPED = re.compile(rb"\\.|''|'", re.DOTALL)
_NESTED = re.compile(rb"/\*|\*/")
_LINE_END = re.compile(rb"[\r\n]")
_BETWEEN = re.compile(rb"(?:[\s;]++|--(?! PostgreSQL| Name: | Data for Name: )[^\r\n]*+[\r\n])*+")
#: pg_dump's line about an entry: names have up to 63 characters, and a routine up to 100 arguments.
_LONGEST_ENTRY = 16 << 10
_REST_OF_LINE = re.compile(rb"[ \t\r\f\v]*\n")
_MARK = re.compile(rb"-- PostgreSQL database dump( complete)?[ \t]*\r?(?:\n|\Z)")
#: What newer pg_dumps put around their scripts, against others' psql.
_RESTRICT = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+[ \t]*\r?(?:\n|\Z)")
_COMMAND = re.compile(rb"\\([A-Za-z_]{1,20}|[!-~])")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Splitter:
    """Fed with a script; yields its parts. Raises LoadFailed for what is none of SQL's: psql's commands, NUL bytes.

    `number`: of the statement that is read, from 1. `escapes`: whether a backslash escapes in plain quotes, which the
    caller knows from what was set. `marked`: the script says that pg_dump wrote it; `complete`: nothing has come
    after the mark at its end. `entry`: what pg_dump says the statements are of.
    """

    def __init__(self) -> None:
        self.number = 0
        self.escapes = False
        self.entry: Entry | None = None
        self.marked = self.complete = False
        self._buffer = b""
        self._at = 0  # what comes before has been read
        self._from = 0  # what comes before has been yielded
        self._inside = False  # of a statement
        self._tokens = _TOKENS
        self._depth = 0  # of what a semicolon does not end
        self._closing = b""  # what ends the quotes we are in
        self._escaping = False
        self._comment = 0
        self._line_comment = False
        self._remark = b""  # a comment between statements
        self._copying = self._rest_of_line = False
        self._first = True

    @property
    def between(self) -> bool:
        """Whether the script may end here."""
        return not (self._inside or self._copying or self._comment)

    def copy(self) -> None:
        """The statement that has just ended is a COPY: its rows begin at the next line."""
        self._copying = self._rest_of_line = True

    def feed(self, data: bytes, *, last: bool = False) -> Iterator[Event]:
        if b"\0" in data:
            raise LoadFailed(f"The dump holds a NUL byte, in or after {self.place}: it is no SQL script, or damaged")
        kept = max(self._at - 1, 0)  # a quote's meaning depends on the character before it
        self._buffer = self._buffer[kept:] + data
        self._at = self._from = self._at - kept
        limit = len(self._buffer) - (0 if last else _HOLD)
        if self._first and limit > 0:
            self._first = False
            self._at = len(_BYTE_ORDER_MARK) if self._buffer.startswith(_BYTE_ORDER_MARK) else 0
        while self._at < limit:
            if self._copying:
                yield from self._rows(limit)
            elif self._line_comment or self._comment:
                self._in_comment(limit)
            elif self._closing:
                self._in_quotes(limit)
            elif not self._inside:
                yield from self._next_statement(limit)
            elif self._statement_ends(limit):
                yield Part.TEXT, self._buffer[self._from : self._at - 1]
                self._inside = False
                self._from = self._at
                yield Part.END, b""
        if self._inside and self._from < self._at:
            yield Part.TEXT, self._buffer[self._from : self._at]
            self._from = self._at

    @property
    def place(self) -> str:
        return f"statement {self.number}" if self.number else "its beginning"

    def _next_statement(self, limit: int) -> Iterator[Event]:
        """Go on to where one begins, or to a comment before it."""
        buffer = self._buffer
        found = _BETWEEN.match(buffer, self._at)
        self._at = found.end() if found else self._at
        if self._at >= limit:
            return
        begins = buffer[self._at : self._at + 2]
        if begins == b"--":
            if mark := _MARK.match(buffer, self._at):
                self.marked, self.complete = True, bool(mark[1])
            self._line_comment, self._remark = True, b""
            self._at += 2
        elif begins == b"/*":
            self._comment = 1
            self._at += 2
        elif begins[:1] == b"\\":
            self._command()
        else:
            yield from self._begin()

    def _begin(self) -> Iterator[Event]:
        self.number += 1
        self.complete = False
        self._from = self._at
        self._inside, self._depth = True, 0
        if _ROUTINE.match(self._buffer, self._at):
            self._tokens = _ROUTINE_TOKENS
        elif _RULE.match(self._buffer, self._at):
            self._tokens = _RULE_TOKENS
        else:
            self._tokens = _TOKENS
            if not self.escapes:
                yield from self._simple()

    def _simple(self) -> Iterator[Event]:
        """The whole statement, where it is here, and the inserts after an insert."""
        buffer = self._buffer
        if found := _INSERT.match(buffer, self._at):
            number = self.number
            while found:
                self._at = found.end()
                number += 1
                found = _INSERT.match(buffer, self._at)
            yield Part.INSERTS, buffer[self._from : self._at - 1]
            self.number = number - 1
        elif found := _SIMPLE.match(buffer, self._at):
            self._at = found.end()
            yield Part.TEXT, found[1]
            yield Part.END, b""
        else:
            return
        self._inside = False
        self._from = self._at

    def _command(self) -> None:
        if own := _RESTRICT.match(self._buffer, self._at):
            self._at = own.end()
            return
        found = _COMMAND.match(self._buffer, self._at)
        name = found[1].decode() if found else ""
        if name in ("c", "connect"):
            raise LoadFailed(
                f"The dump goes on to another database after {self.place} (\\connect): dump one database, without "
                "--create"
            )
        raise LoadFailed(f"The dump holds a psql command (\\{name}) after {self.place}: it is refused")

    def _statement_ends(self, limit: int) -> bool:
        """Read on to the next token; whether it ends the statement."""
        if self._tokens is _TOKENS and not self.escapes:
            skipped = _SKIPPED.match(self._buffer, self._at, limit)
            end = skipped.end() if skipped else self._at
            self._at = max(self._at, end - (self._buffer[end - 1 : end] in (b"e", b"E")))  # it may belong to a quote
        found = self._tokens.search(self._buffer, self._at)
        if found is None or found.start() >= limit:
            self._at = limit
            return False
        token = found[0]
        self._at = found.end()
        if token == b";":
            return self._depth == 0
        if token in (b"'", b'"'):
            self._closing, self._escaping = token, self.escapes and token == b"'"
        elif token in (b"e'", b"E'"):
            self._closing, self._escaping = b"'", True
        elif token[:1] == b"$":
            self._closing, self._escaping = token, False
        elif token == b"--":
            self._line_comment = True
        elif token == b"/*":
            self._comment = 1
        elif token == b"\\":
            raise LoadFailed(f"The dump holds a backslash outside quotes in {self.place}: no SQL has one")
        else:
            self._nest(token.upper())
        return False

    def _nest(self, token: bytes) -> None:
        """Parentheses of a rule; the body of a routine in standard SQL, where a CASE has an END of its own."""
        if token in (b")", b"END"):
            self._depth = max(self._depth - 1, 0)
        elif token == b"CASE":
            self._depth += self._depth > 0
        elif token == b"(" or self._depth == 0:
            self._depth += 1

    def _in_quotes(self, limit: int) -> None:
        if self._escaping:
            found = _ESCAPED.search(self._buffer, self._at)
            if found is None or found.start() >= limit:
                self._at = limit
            else:
                self._at = found.end()
                if found[0] == b"'":
                    self._closing = b""
            return
        end = self._buffer.find(self._closing, self._at)
        if end < 0:
            self._at = limit
        else:
            self._at = end + len(self._closing)
            self._closing = b""

    def _in_comment(self, limit: int) -> None:
        begin = self._at
        found = (_LINE_END if self._line_comment else _NESTED).search(self._buffer, begin)
        ended = found is not None and found.start() < limit
        self._at = found.end() if found and ended else limit
        if self._line_comment and not self._inside and len(self._remark) < _LONGEST_ENTRY:
            self._remark += self._buffer[begin : self._at]
        if found is None or not ended:
            return
        if self._line_comment:
            self._line_comment = False
            if not self._inside and (entry := entry_of(self._remark)):
                self.entry = entry
        else:
            self._comment += 1 if found[0] == b"/*" else -1

    def _rows(self, limit: int) -> Iterator[Event]:
        """Up to the line `\\.`, exactly as psql finds it."""
        buffer = self._buffer
        if self._rest_of_line:
            rest = _REST_OF_LINE.match(buffer, self._at)
            if rest is None:
                raise LoadFailed(f"Something follows the COPY of {self.place} on its line: its rows cannot be found")
            self._at = self._from = rest.end()
            self._rest_of_line = False
        found = self._at - 1  # the end of the line before
        while 0 <= (found := buffer.find(b"\n\\.", found)) < limit:
            after = buffer[found + 3 : found + 5]
            if after[:1] == b"\n" or after == b"\r\n":
                if self._from <= found:
                    yield Part.ROWS, buffer[self._from : found + 1]
                self._at = self._from = found + 3 + (1 if after[:1] == b"\n" else 2)
                self._copying = False
                yield Part.ROWS_END, b""
                return
            found += 3
        self._at = max(limit, self._at)
        if self._from < self._at:
            yield Part.ROWS, buffer[self._from : self._at]
            self._from = self._at
