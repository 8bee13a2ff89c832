"""A mysqldump script on its way into a server: tables apart from what is built on them.

Source: the output of MariaDB's and MySQL's dump programs (client/mysqldump.cc). Newlines in data are always
escaped, so a line's start outside a `DELIMITER ;;` block is the dump program's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.errors import LoadFailed

_ACCOUNT = rb"`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)?"
_DEFINERS = (
    re.compile(rb"^(/\*!\d{5} CREATE\*/ )/\*!\d{5} DEFINER=" + _ACCOUNT + rb"\*/ ?()"),
    re.compile(rb"^(CREATE )DEFINER=" + _ACCOUNT + rb" ((?:AGGREGATE )?(?:FUNCTION|PROCEDURE|PACKAGE)\b)"),
    re.compile(rb"^(/\*!\d{5} )DEFINER=" + _ACCOUNT + rb" (SQL SECURITY )"),
)
_END = re.compile(rb"^-- Dump completed( on .*)?$")
#: Session settings around triggers, routines, events and views; they travel with them.
_SETTING = re.compile(rb"^/\*!(50001|50003|50106) SET ")
_DROP_VIEW = re.compile(rb"^/\*!50001 DROP (VIEW|TABLE) IF EXISTS ")
_VIEW = re.compile(rb"^/\*!50001 CREATE (VIEW|ALGORITHM=)")
_EVENT = b"/*!50106 "
#: MySQL 8's collations, its default among them, after Unicode 9; the nearest that every MariaDB has is Unicode 5.2.
_COLLATION = re.compile(rb"\butf8mb4_(?:[a-z]{2}_)?0900_[a-z_]+\b")
_ROWS = (b"INSERT ", b"REPLACE ", b"(")
_LINE_HEAD = 64 << 10
_MAX_OBJECTS = 64 << 20


class MysqlScript:
    """`feed` yields what makes tables and rows; `objects` and `events` gather the rest. No DEFINER is kept:
    what is created belongs to the account that creates it. `mariadb`: the server is one, and gets collations that it
    knows in place of MySQL 8's. Raises LoadFailed.
    """

    def __init__(self) -> None:
        self.objects = b""
        self.events = b""
        self.complete = False
        self.mariadb = False
        self._buffer = b""
        self._in_data = False  # inside a line too long to be anything but rows
        self._block: list[bytes] | None = None
        self._view = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while self._buffer:
            end = self._buffer.find(b"\n") + 1
            if self._in_data or (not end and len(self._buffer) > _LINE_HEAD and self._is_data()):
                piece, self._buffer = (self._buffer[:end], self._buffer[end:]) if end else (self._buffer, b"")
                self._in_data = not end
                yield piece
                continue
            if not end:
                if len(self._buffer) > _MAX_OBJECTS:
                    raise LoadFailed("The dump holds a routine or view larger than 64 MiB")
                return
            line, self._buffer = self._buffer[:end], self._buffer[end:]
            if self.mariadb and not line.startswith(_ROWS):
                line = _COLLATION.sub(b"utf8mb4_unicode_520_ci", line)
            if self._line(line):
                yield line

    def finish(self) -> None:
        """Raises LoadFailed unless the script ended where its dump program ends it."""
        if self._buffer or self._block is not None or self._view or not self.complete:
            raise LoadFailed("The dump ends before its end marker")

    def _is_data(self) -> bool:
        return self._block is None and not self._view and not self._buffer.startswith((b"/*!", b"DELIMITER"))

    def _line(self, line: bytes) -> bool:
        """True when the line is for tables; otherwise it is kept."""
        if line.strip():
            self.complete = bool(_END.match(line.rstrip()))
        if self._block is not None:
            return self._block_line(line)
        if line.startswith(b"DELIMITER ;;"):
            self._block = [line]
            return False
        if line.startswith(b"/*M!999999\\-"):  # enables the sandbox, which is on; MySQL's client refuses the line
            return False
        if line.startswith(b"ALTER DATABASE "):  # names the database it came from
            return False
        if self._view or _VIEW.match(line):
            self._view = not line.rstrip().endswith(b"*/;")
            self._keep(_without_definer(line))
            return False
        if _SETTING.match(line):
            self.objects += line
            self.events += line
            return False
        if _DROP_VIEW.match(line):
            self._keep(line)
            return False
        return True

    def _block_line(self, line: bytes) -> bool:
        assert self._block is not None
        if not line.startswith(b"ALTER DATABASE "):
            self._block.append(_without_definer(line))
        if line.startswith(b"DELIMITER ;") and not line.startswith(b"DELIMITER ;;"):
            block, self._block = b"".join(self._block), None
            if (b"\n" + _EVENT + b"CREATE") in block:
                self.events += block
            else:
                self._keep(block)
        return False

    def _keep(self, text: bytes) -> None:
        self.objects += text
        if len(self.objects) > _MAX_OBJECTS:
            raise LoadFailed("The dump holds more than 64 MiB of views, triggers and routines")


def _without_definer(line: bytes) -> bytes:
    for pattern in _DEFINERS:
        line = pattern.sub(rb"\1\2", line)
    return line
