"""Passing a PostgreSQL dump on to psql: nothing in it may be a psql command.

Source: the PostgreSQL manual, "psql" (meta-commands, variables) and "Lexical Structure" (quoting, dollar quotes,
nested comments). psql runs any backslash it meets outside quotes and COPY data, on the machine it runs on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.errors import LoadFailed

_TOKEN = re.compile(rb"""'|"|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$|--|/\*|\\|;""")
_COPY = re.compile(rb"^\s*COPY\s.*\sFROM\s+stdin$", re.DOTALL | re.IGNORECASE)
_OWN = re.compile(rb"^\\(un)?restrict [A-Za-z0-9]+\n$")
#: pg_restore wraps large objects in transactions of their own; inside ours they must not end it.
_TRANSACTION = (b"BEGIN;\n", b"COMMIT;\n")
#: What one line of a plain dump says of accounts that are not here.
_OWNERS = re.compile(
    rb"^(?:ALTER [A-Z ]+ .* OWNER TO .*|GRANT .*|REVOKE .*|ALTER DEFAULT PRIVILEGES .*|SET SESSION AUTHORIZATION .*);"
    rb"\n$"
)
_COMPLETE = b"-- PostgreSQL database dump complete"
_CONTROL = re.compile(
    rb"\s*(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+TRANSACTION)\b", re.IGNORECASE
)
_ATOMIC = re.compile(rb"\bBEGIN\s+ATOMIC\b", re.IGNORECASE)
_OPENS = re.compile(rb"\b(BEGIN|CASE)\b", re.IGNORECASE)
_CLOSES = re.compile(rb"\bEND\b", re.IGNORECASE)
_MAX_LINE = 256 << 20
_IDENTIFIER = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$")


class ScriptFilter:
    """Fed with SQL as pg_restore prints it; yields what psql may read. Raises LoadFailed for anything else.

    Drops the dump's own restrict lines (the caller sets a key of its own), the transactions pg_restore puts around
    large objects, and comments on extensions, which only their owner may make. `plain`: a script that pg_dump wrote:
    owners and grants, which pg_restore leaves out, are dropped, and it must end as pg_dump ends it (`whole`).
    """

    def __init__(self, *, plain: bool = False) -> None:
        self._plain_script = plain
        self.whole = not plain
        self._buffer = b""
        self._copying = False
        self._closing = b""  # what ends the quote or comment we are in; empty outside
        self._escapes = False
        self._depth = 0
        self._statement = b""
        self.restricted = False

    @property
    def between_statements(self) -> bool:
        return not (self._copying or self._closing or self._depth or self._statement.strip() or self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while self._buffer:
            passed = self._copy_data() if self._copying else self._line()
            if passed is None:
                return
            if passed:
                yield passed

    def _copy_data(self) -> bytes | None:
        """Everything up to the line `\\.`; called at a line's start or with the buffer kept so."""
        buffer = self._buffer
        if buffer.startswith(b"\\.\n"):
            end = 3
        else:
            found = buffer.find(b"\n\\.\n")
            end = found + 4 if found >= 0 else 0
        if end:
            self._copying = False
            self._buffer = buffer[end:]
            return buffer[:end]
        last = buffer.rfind(b"\n", 0, -3) + 1  # keep the last lines: the end marker may be cut in two
        if last == 0:
            if len(buffer) > _MAX_LINE:
                raise LoadFailed("The dump holds a row larger than 256 MiB")
            return None
        self._buffer = buffer[last:]
        return buffer[:last]

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n") + 1
        if end == 0:
            if len(self._buffer) > _MAX_LINE:
                raise LoadFailed("The dump holds a line larger than 256 MiB")
            return None
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        fresh = not (self._closing or self._depth or self._statement.strip())
        if fresh and _OWN.match(line):
            self.restricted = True
            return b"\n"
        if fresh and line in _TRANSACTION:
            return b"\n"
        if fresh and line.startswith(b"COMMENT ON EXTENSION ") and line.endswith(b";\n"):
            return b"\n"
        if self._plain_script:
            if fresh and line.rstrip() == _COMPLETE:
                self.whole = True
            elif line.strip() and not line.startswith((b"--", b"\\unrestrict")):
                self.whole = False
            if fresh and _OWNERS.match(line):
                return b"\n"
        self._scan(line)
        return line

    def _scan(self, line: bytes) -> None:
        position = 0
        while position < len(line):
            if self._depth:
                position = self._comment(line, position)
            elif self._closing:
                position = self._quoted(line, position)
            else:
                position = self._plain(line, position)
        if not (self._closing or self._depth) and len(self._statement) < 1 << 20:
            self._statement += b"\n" if self._statement else b""

    def _plain(self, line: bytes, position: int) -> int:
        match = _TOKEN.search(line, position)
        if match is None:
            self._keep(line[position:])
            return len(line)
        token = match[0]
        self._keep(line[position : match.start()])
        before = line[match.start() - 1] if match.start() else 0
        if token == b"\\":
            raise LoadFailed("The dump holds a psql command (a backslash outside quotes): it is refused")
        if token == b"--":
            return len(line)
        if token == b";":
            self._end_statement()
            return match.end()
        if token == b"/*":
            self._depth = 1
            return match.end()
        self._keep(token)
        if token in (b"'", b'"'):
            self._closing = token
            prefixed = before in b"eE" and (match.start() < 2 or line[match.start() - 2] not in _IDENTIFIER)
            self._escapes = token == b"'" and before != 0 and prefixed
        elif before not in _IDENTIFIER:
            self._closing, self._escapes = token, False
        else:  # part of an identifier such as a$b$: only its first character belongs to it
            return match.start() + 1
        return match.end()

    def _end_statement(self) -> None:
        statement = self._statement
        if _ATOMIC.search(statement) and len(_OPENS.findall(statement)) > len(_CLOSES.findall(statement)):
            self._keep(b";")  # inside a routine's body in standard SQL
            return
        if _CONTROL.match(statement):
            raise LoadFailed("The dump holds a transaction command of its own: it is refused")
        self._copying = bool(_COPY.match(statement))
        self._statement = b""

    def _quoted(self, line: bytes, position: int) -> int:
        while position < len(line):
            end = line.find(self._closing, position)
            escape = line.find(b"\\", position) if self._escapes else -1
            if escape >= 0 and (end < 0 or escape < end):
                position = escape + 2
                continue
            if end < 0:
                return len(line)
            self._closing, closed = b"", end + len(self._closing)
            return closed
        return position

    def _comment(self, line: bytes, position: int) -> int:
        match = re.compile(rb"/\*|\*/").search(line, position)
        if match is None:
            return len(line)
        self._depth += 1 if match[0] == b"/*" else -1
        return match.end()

    def _keep(self, text: bytes) -> None:
        """The statement so far, to know a COPY by; its beginning is enough for every other one."""
        if len(self._statement) < 1 << 20:
            self._statement += text
