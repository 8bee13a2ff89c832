"""A dump of MySQL or MariaDB on its way into a server: tables apart from what is built on them.

Sources: the output of MariaDB's and MySQL's dump programs (client/mysqldump.cc) and of phpMyAdmin; how the client
cuts a script into statements (client/mysql.cc, add_line).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from app.components.base import MAX_NAMED
from app.components.mysql_dump import Inventory
from app.components.mysql_long_rows import Inserts
from app.components.mysql_objects import Objects
from app.components.mysql_statements import (
    as_it_was,
    comes_from,
    kind_of,
    label_of,
    named_database,
    names_database,
    used_database,
    with_known_collations,
    without_database,
    without_definer,
)
from app.errors import LoadFailed

_END = re.compile(rb"(?:\A|\n)-- Dump completed(?: on [^\n]*)?\s*\Z")
_LEAD = re.compile(rb"(?:\s++|--[^\n]*+\n|#[^\n]*+\n|/\*(?!!|M!)(?:[^*]++|\*(?!/))*+\*/)*+")
#: Enables a mode of MariaDB's client that its own line does not need; MySQL's client refuses the line.
_SANDBOX = re.compile(rb"/\*M?!999999\\-[^\n]*\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INSERT = re.compile(rb"(?:INSERT|REPLACE)\s", re.IGNORECASE)
#: Lines of rows, as dump programs write them.
_ROWS = re.compile(rb"(?:(?:INSERT|REPLACE|insert|replace)[ \t][^\n`]*+(?:`[^\n`]*+`[^\n]*+)?\n|\([^\n]*+\n)++")
_DELIMITER = re.compile(rb"DELIMITER[ \t]+(\S+)[^\n]*\n", re.IGNORECASE)
_DELIMITER_BACK = re.compile(rb"^DELIMITER[ \t]+;[ \t\r]*\n", re.IGNORECASE | re.MULTILINE)
#: All of a statement that is no string or comment that is open, up to its end.
_PLAIN = re.compile(
    rb"""(?:[^'"`;\#/\-]++|'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+"|`[^`]*+`|-(?=[^-]|-[^\s])|/(?=[^*])|/\*(?=!|M!))*+""",
    re.DOTALL,
)
_INSIDE = {
    b"'": re.compile(rb"(?:[^'\\]++|\\.)*+", re.DOTALL),
    b'"': re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL),
    b"`": re.compile(rb"[^`]*+"),
}
_ENDS = {b"-": b"\n", b"#": b"\n", b"/": b"*/"}
#: A line of rows is waited for up to so many bytes; longer ones pass in pieces.
_LINE = 16 << 20
_MAX_OBJECTS = 64 << 20
#: A comment before a statement is waited for up to so many bytes; a longer one counts as part of it.
_COMMENT = 64 << 10
#: So many bytes tell INSERT, DELIMITER and comments apart.
_START = 12
#: A line that enters a database is no longer.
_NAME = 300


class MysqlScript:
    """`feed`, and `finish` at the end, yield what makes tables and rows; `objects` and `events` gather the rest. No
    DEFINER is kept: what is created belongs to the account that creates it.

    `database`: the one that it is loaded into. `foreign`: it was made by another program, and need not end with
    mysqldump's end marker (`unmarked` tells that it did not). `mariadb`: the server is one, and gets collations that
    it knows in place of MySQL 8's. `left_out`: statements that mean nothing here. `elsewhere`: what names the
    database by the name that it was dumped under, which is not the one here. Raises LoadFailed.
    """

    def __init__(self, database: str = "", *, foreign: bool = False) -> None:
        self.mariadb = False
        self._inserts = Inserts()
        self.unmarked = False
        self.left_out: list[str] = []
        self.elsewhere: list[str] = []
        self._foreign = foreign
        self._target = database.encode()
        self._own: set[bytes] = set()
        self._made = b""  # a database that was made or removed, and not entered yet
        self._complete = False
        self._objects, self._events = Objects(), Objects()
        self._buffer = b""
        self._at = 0
        self._where: Literal["between", "rows", "statement", "block"] = "between"
        self._open = b""  # the string or comment that a statement is in
        self._newline = True  # what is at `_at` begins a line
        self._careful = 0  # up to where in the buffer rows were seen not to pass in whole lines
        self._line: list[bytes] = []  # what has come of a line of rows that is waited for
        self._waits, self._waiting = False, 0
        self._first, self._final = True, False
        self._statement = bytearray()

    def suits(self, server: Inventory) -> None:
        """It is loaded into that one."""
        self.mariadb = server.mariadb
        self._inserts = Inserts(server.packet)

    @property
    def objects(self) -> bytes:
        return self._objects.script()

    @property
    def events(self) -> bytes:
        return self._events.script()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._line.append(data)
        self._waiting += len(data)
        if self._waits and b"\n" not in data and self._waiting < _LINE:
            return
        self._buffer = b"".join([self._buffer[self._at :], *self._line])
        self._careful = max(0, self._careful - self._at)
        self._at, self._waits, self._waiting, self._line = 0, False, 0, []
        if self._first and self._buffer:
            self._first = False
            self._at = len(_BYTE_ORDER_MARK) if self._buffer.startswith(_BYTE_ORDER_MARK) else 0
        yield from self._work()

    def finish(self) -> Iterator[bytes]:
        """Raises LoadFailed unless the script ended where its dump program ends it."""
        self._final = True
        yield from self.feed(b"\n")
        if self._where == "block" and self._foreign:
            self._where = "between"
            yield from self._block_done(bytes(self._statement) + b"\nDELIMITER ;\n")
            self._statement.clear()
        if self._open in (b"'", b'"', b"`", b"/") or self._where == "block":
            raise LoadFailed("The dump ends in the middle of a statement")
        yield from self._inserts.finish()
        rest = bytes(self._statement) + self._buffer[self._at :]
        if _LEAD.fullmatch(rest):
            self._complete = self._complete or bool(_END.search(rest))
            yield rest
        elif self._where == "statement":
            yield from self._done(rest + b";\n")  # the client sends the last one without an end all the same
        else:
            yield rest
        if self._made:
            raise _foreign_database(self._made)
        self.unmarked = not self._complete
        if self.unmarked and not self._foreign:
            raise LoadFailed("The dump ends before its end marker")

    def _work(self) -> Iterator[bytes]:
        """As far as what has come allows."""
        work = {"between": self._between, "rows": self._rows, "statement": self._rest, "block": self._block}
        while self._at < len(self._buffer):
            before = self._at, self._where
            yield from work[self._where]()
            if before == (self._at, self._where):
                return

    def _taken(self, end: int) -> bytes:
        piece = self._buffer[self._at : end]
        if piece:
            self._at, self._newline = end, piece.endswith(b"\n")
        return piece

    def _between(self) -> Iterator[bytes]:
        """Between statements: comments and white space, and what begins."""
        found = _LEAD.match(self._buffer, self._at)
        assert found is not None
        if lead := self._taken(found.end()):
            if lead.strip():
                self._complete = bool(_END.search(lead))
                self._own |= comes_from(lead) if b"Database: " in lead else set()
            yield lead
        if self._at == len(self._buffer):
            return
        start = self._buffer[self._at : self._at + _START]
        if _INSERT.match(start):
            self._where, self._newline = "rows", True
        elif found := _SANDBOX.match(self._buffer, self._at):
            self._at = found.end()
        elif (found := _DELIMITER.match(self._buffer, self._at)) and found[1] != b";":
            self._where = "block"
            self._statement += b"DELIMITER %b\n" % found[1]
            self._at = found.end()
        elif found:
            self._at = found.end()
        elif (end := self._buffer.find(b"\n", self._at, self._at + _NAME) + 1) and (
            name := used_database(self._buffer[self._at : end])
        ):
            self._at = end
            self._enter(name)
        elif self._is_begun(start):
            self._where = "statement"
        self._complete = False

    def _is_begun(self, start: bytes) -> bool:
        """Whether enough has come to tell that it is a statement: not a comment, nor a line for the client alone."""
        if len(self._buffer) - self._at > _COMMENT:
            return True
        short = start.upper()
        if short.startswith((b"--", b"#", b"/*M!999999", b"/*!999999", b"DELIMITER ", b"DELIMITER\t", b"USE ")):
            return self._final
        if short.startswith(b"/*") and not short.startswith((b"/*!", b"/*M!")):
            return self._final
        return self._final or len(start) == _START

    def _rows(self) -> Iterator[bytes]:
        """Whole lines at once where no string is open at their end: then none was open at any, as dump programs write
        no line's end into strings."""
        if self._newline and not self._open and self._at >= self._careful:
            found = _ROWS.match(self._buffer, self._at)
            if found is None and len(self._buffer) - self._at < _LINE and b"\n" not in self._buffer[self._at :]:
                self._waits = True
                return
            if found is not None and _balanced(piece := self._buffer[self._at : found.end()]):
                self._taken(found.end())
                done = piece[-4:].rstrip().endswith(b";")
                self._where = "between" if done else "rows"
                yield from self._inserts.feed(piece, done=done, lines=True)
                return
            self._careful = found.end() if found else 0
        end, done = self._cut()
        if piece := self._taken(end):
            yield from self._inserts.feed(piece, done=done)
        if done:
            self._where = "between"

    def _rest(self) -> Iterator[bytes]:
        """Of a statement that is looked at as a whole."""
        end, done = self._cut()
        self._statement += self._taken(end)
        if len(self._statement) > _MAX_OBJECTS:
            raise LoadFailed("The dump holds a statement that is no INSERT and larger than 64 MiB")
        if done:
            self._where = "between"
            yield from self._done(bytes(self._statement))
            self._statement.clear()

    def _cut(self) -> tuple[int, bool]:
        """How far the statement goes in what has come, and whether it ends there."""
        buffer, at = self._buffer, self._at
        while at < len(buffer):
            if self._open:
                at = self._inside(at)
                if self._open:
                    return at, False
            found = _PLAIN.match(buffer, at)
            assert found is not None
            at = found.end()
            opened = buffer[at : at + 1]
            if opened == b";":
                return at + 1, True
            if opened in _INSIDE or opened == b"#":
                self._open, at = opened, at + 1
            elif opened and len(buffer) - at > 2:  # a comment; with less of it nothing can be told yet
                self._open, at = opened, at + 2
            else:
                break
        return at, False

    def _inside(self, at: int) -> int:
        """Where the open string or comment ends, or what has come of it; `_open` tells."""
        if inside := _INSIDE.get(self._open):
            found = inside.match(self._buffer, at)
            assert found is not None
            at, end = found.end(), self._open
        else:
            end = _ENDS[self._open]
            at = self._buffer.find(end, at)
            at = at if at >= 0 else max(self._at, len(self._buffer) - len(end) + 1)
        if self._buffer.startswith(end, at):
            self._open, at = b"", at + len(end)
        return at

    def _block(self) -> Iterator[bytes]:
        """From DELIMITER to the line that sets it back."""
        found = _DELIMITER_BACK.search(self._buffer, self._at)
        whole = len(self._buffer) if found else self._buffer.rfind(b"\n", self._at) + 1 or self._at
        self._statement += self._taken(found.end() if found else whole)
        if len(self._statement) > _MAX_OBJECTS:
            raise LoadFailed("The dump holds a routine larger than 64 MiB")
        if found:
            self._where = "between"
            yield from self._block_done(bytes(self._statement))
            self._statement.clear()

    def _block_done(self, block: bytes) -> Iterator[bytes]:
        first, _, body = block.partition(b"\n")
        body = body[: body.rstrip().rfind(b"\n") + 1]
        delimiter = first.split()[1]
        parts = [part for part in body.split(delimiter) if not _is_database(part)]
        parts = [part for part in parts if self._fits(part)]
        kinds = {kind_of(part) for part in parts}
        content = delimiter.join(without_definer(part) for part in parts)
        text = self._known(b"%b\n%bDELIMITER ;\n" % (first, content))
        if "event" in kinds:
            self._keep(self._events, text)
        elif "object" in kinds:
            self._keep(self._objects, text)
        else:
            yield text

    def _done(self, statement: bytes) -> Iterator[bytes]:
        """Where a whole statement belongs."""
        kind = kind_of(statement)
        if kind == "object":
            text = without_database(without_definer(statement), self._names)
            self._fits(text)
            self._keep(self._objects, self._known(text) + b"\n")
        elif kind == "event":
            if self._fits(text := without_definer(statement)):
                self._keep(self._events, self._known(text) + b"\n")
        elif kind == "database":
            self._of_database(statement)
        elif kind == "binlog":
            if len(self.left_out) <= MAX_NAMED:
                self.left_out.append(statement[:80].decode("utf-8", "replace").strip())
        elif kind == "table":
            yield self._known(without_database(statement, self._names))
        elif kind != "lock":
            statement = as_it_was(statement)
            self._keep(self._objects, statement + b"\n")
            self._keep(self._events, statement + b"\n")
            if kind != "setting":
                yield statement

    def _fits(self, statement: bytes) -> bool:
        """Loaded under another name, what names the former one acts there, not here: it is told. An event would do so
        by itself: it is left out."""
        kind, others = kind_of(statement), self._own - {self._target}
        if kind not in ("object", "event") or not others or not names_database(statement, others):
            return True
        if (label := label_of(statement)) not in self.elsewhere and len(self.elsewhere) <= MAX_NAMED:
            self.elsewhere.append(label)
        return kind != "event"

    def _of_database(self, statement: bytes) -> None:
        """One that makes and enters the database that the dump is of means the one it is loaded into. Raises
        LoadFailed for any other."""
        name, verb = named_database(statement)
        if verb == b"USE":
            self._enter(name)
        elif verb != b"ALTER" and not self._is_own(name):
            if self._own or self._made not in (b"", name):
                raise _foreign_database(name)
            self._made = name

    def _enter(self, name: bytes) -> None:
        if name == self._made and not self._own:
            self._own, self._made = {name}, b""
        elif not self._is_own(name):
            raise _foreign_database(name)

    def _is_own(self, name: bytes) -> bool:
        return name == self._target or name in self._own

    @property
    def _names(self) -> set[bytes]:
        return self._own | {self._target}

    def _known(self, text: bytes) -> bytes:
        return with_known_collations(text) if self.mariadb else text

    @staticmethod
    def _keep(kept: Objects, text: bytes) -> None:
        kept.keep(text)
        if kept.size > _MAX_OBJECTS:
            raise LoadFailed("The dump holds more than 64 MiB of views, triggers and routines")


def _foreign_database(name: bytes) -> LoadFailed:
    shown = name[:64].decode("utf-8", "replace")
    return LoadFailed(f"The dump is about another database, {shown}: give each database a dump of its own")


def _is_database(part: bytes) -> bool:
    """ALTER DATABASE, around a routine: it names the database that the dump comes from."""
    return kind_of(part) == "database"


def _balanced(rows: bytes) -> bool:
    if b"\\" in rows:
        rows = rows.replace(b"\\\\", b"").replace(b"\\'", b"")
    return not (rows.count(b"'") & 1 or rows.count(b"`") & 1)
