"""A PostgreSQL dump as psql is given it: no byte of it is read by psql as psql's own language.

Each statement goes as a text of base64 that the server turns back (`\\gexec`): psql hands on what comes, and does not
look into it. Rows go as they are, after a COPY that the server can only answer by asking for them, or with an error,
which ends psql. See docs/decisions/0022-psql.md.

Source: psql's `common.c` (ExecQueryTuples, HandleCopyResult) and `copy.c` (handleCopyIn), the same from 13 to 18.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Collection, Iterator

from app.components.psql_entries import (
    FIRST_ROWS,
    RIGHTS,
    ROWS_BEGIN,
    ROWS_END,
    Entry,
    label_of,
    narrows,
    tried,
)
from app.components.psql_owners import NAMED, Owners
from app.components.psql_splitter import Part, Splitter
from app.errors import LoadFailed

_OPEN = b"SELECT pg_catalog.convert_from(pg_catalog.decode('"
_CLOSE = b"', 'base64'), pg_catalog.pg_client_encoding()) \\gexec\n"
#: Inserts are sent together: the way to the server and back is what they cost.
_BATCH = 1 << 20
#: A statement is looked at as a whole up to here; a longer one is passed on while it is read.
_WHOLE = 1 << 20
#: As text of base64 it must fit in what the server allocates at once.
_LONGEST = 384 << 20

_NAME = rb"(?:[A-Za-z_][A-Za-z0-9_$]*|\"(?:[^\"]|\"\")++\")"
_OPTION = (
    rb"(?:FORMAT\s+(?:text|csv)|(?:HEADER|FREEZE)(?:\s+(?:true|false|on|off|match))?"
    rb"|(?:DELIMITER|NULL|QUOTE|ESCAPE|ENCODING)\s+'[^'\\]{0,99}')"
)
#: What the server answers by asking for rows, or with an error: nothing else has this form.
_COPY = re.compile(
    rb"COPY\s+" + _NAME + rb"(?:\s*\.\s*" + _NAME + rb"){0,2}"
    rb"(?:\s*\(\s*" + _NAME + rb"(?:\s*,\s*" + _NAME + rb")*+\s*\))?\s+FROM\s+STDIN"
    rb"(?:\s+(?:WITH\s*)?\(\s*" + _OPTION + rb"(?:\s*,\s*" + _OPTION + rb")*+\s*\)"
    rb"|\s+(?:WITH\s+)?CSV(?:\s+HEADER)?)?\s*",
    re.IGNORECASE,
)  # fmt: skip
_COPIES = re.compile(rb"COPY\b", re.IGNORECASE)
_FROM_STDIN = re.compile(rb"\bSTDIN\b", re.IGNORECASE)
_INSERT = re.compile(rb"INSERT\s+INTO\b", re.IGNORECASE)
#: pg_restore wraps large objects in transactions of their own; inside ours they must not end it.
_OWN_TRANSACTION = re.compile(rb"(?:BEGIN|START\s+TRANSACTION|COMMIT)\s*", re.IGNORECASE)
_CONTROL = re.compile(
    rb"(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+TRANSACTION)\b", re.IGNORECASE
)
#: Only an extension's owner may comment on it.
_EXTENSION = re.compile(rb"COMMENT\s+ON\s+EXTENSION\b", re.IGNORECASE)
#: What a dump says of accounts that may not be here: all is the account's that restores it.
_OWNERS = re.compile(
    rb"ALTER\s+[A-Z]+\s.*\sOWNER\s+TO\s+" + _NAME + rb"\s*|(?:RE)?SET\s+SESSION\s+AUTHORIZATION\b.*",
    re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_SET = re.compile(rb"SET\s+(?:SESSION\s+|LOCAL\s+)?([A-Za-z_]+)\s*(?:=|\bTO\b)\s*'?([^']*?)'?\s*", re.IGNORECASE)
_OFF = (b"off", b"false", b"no", b"0")
_MAKES = re.compile(rb"(?:CREATE|INSERT|COPY)\b", re.IGNORECASE)


class PsqlScript:
    """Fed with SQL as pg_restore prints it; yields what psql reads. Raises LoadFailed for what cannot be passed on.

    `plain`: a script that pg_dump or somebody wrote: what pg_dump began it must have ended. `foreign`: another
    program's, which must make something: a damaged archive can look like one of an empty database; whom it grants
    rights to is another server's, and left out. `unknown`: settings that this server does not have; they are left
    out. `kept`: relations (schema, name) that are there and are other roles': they stay, with their rows.
    `left_out`: how often, by what it was; `left`: the first of `kept` and of the grants by name; `owners`: what was
    whose; `unmarked`: whether the script does not say where it ends.
    """

    def __init__(
        self,
        *,
        plain: bool = False,
        foreign: bool = False,
        unknown: Collection[str] = (),
        kept: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self._splitter = Splitter()
        self._plain = plain
        self._foreign = foreign
        self._unknown = unknown
        self._kept = kept
        self.left_out: Counter[str] = Counter()
        self.left: dict[str, str] = {}
        self.owners = Owners()
        self._entry: Entry | None = None  # the last that was looked at
        self._leaving = False  # it is one of `kept`
        self._rows = 0
        self._text: list[bytes] = []
        self._size = 0
        self._long = False
        self._cut = b""  # of a long statement: what makes no whole group of base64 yet
        self._inserts: list[bytes] = []
        self._inserts_size = 0
        self._made = 0

    @property
    def unmarked(self) -> bool:
        return self._plain and not self._splitter.marked

    def feed(self, data: bytes, *, last: bool = False) -> Iterator[bytes]:
        for part, piece in self._splitter.feed(data, last=last):
            if part is Part.TEXT:
                yield from self._gather(piece)
            elif part is Part.END:
                yield from self._end()
            elif part is Part.INSERTS:
                yield from self._insert(piece)
            elif self._leaving:
                pass  # rows of a table that stays
            elif part is Part.ROWS:
                yield piece
            else:
                yield b"\\.\n"
                yield from self._after_rows()

    def end(self) -> Iterator[bytes]:
        yield from self.feed(b"", last=True)
        splitter = self._splitter
        if not splitter.between or (self._plain and splitter.marked and not splitter.complete):
            raise LoadFailed(
                f"The dump ends in the middle, or before its end mark; it was cut after {splitter.place}"
            )
        if (self._plain or self._foreign) and not self._made:
            raise LoadFailed("The dump makes nothing: no table, and no row")
        yield from self._flush()

    def _gather(self, piece: bytes) -> Iterator[bytes]:
        self._size += len(piece)
        if self._size > _LONGEST:
            raise LoadFailed(f"{self._named()} is longer than {_LONGEST >> 20} MiB")
        if not self._long:
            self._text.append(piece)
            if self._size <= _WHOLE:
                return
            piece, self._text = b"".join(self._text), []
            if _COPIES.match(piece):
                raise LoadFailed(f"{self._named()} is a COPY longer than {_WHOLE >> 20} MiB")
            self._note(piece)
            yield from self._flush()
            yield _OPEN
            self._long, self._cut = True, self._number(self._splitter.number)
        piece = self._cut + piece
        whole = len(piece) // 3 * 3
        self._cut = piece[whole:]
        yield b64encode(memoryview(piece)[:whole])
        yield b"\n"

    def _end(self) -> Iterator[bytes]:
        if self._long:
            yield b64encode(self._cut)
            yield _CLOSE
            self._long, self._cut = False, b""
        else:
            text, self._text = b"".join(self._text) if len(self._text) != 1 else self._text[0], []
            yield from self._statement(text)
        self._size = 0

    def _statement(self, text: bytes) -> Iterator[bytes]:
        if _INSERT.match(text):
            yield from self._insert(text)
            return
        stays = self._stays()
        if self._is_left_out(text):
            return
        copies = _COPIES.match(text) and self._asks_for_rows(text)
        if stays:
            if copies:
                self._splitter.copy()
            return
        self._note(text)
        yield from self._flush()
        number = self._number(self._splitter.number)
        if copies:
            yield from self._before_rows()
            yield from _cell(number + text)
            self._splitter.copy()
        else:
            trial = tried(text, self._splitter.entry, others=bool(self._kept))
            yield from _cell(number + (trial or text))

    def _stays(self) -> bool:
        """Whether the statement is of a relation that is another role's."""
        entry = self._splitter.entry
        if entry is not self._entry:
            self._entry = entry
            self._leaving = entry is not None and entry.belongs_to(self._kept)
            if self._leaving and entry is not None:
                self.left_out["kept"] += 1
                self._name("kept", entry.label)
            elif entry is not None and entry.makes_object:
                self.owners.add(entry)
        return self._leaving

    def _name(self, what: str, label: str) -> None:
        if len(self.left) < NAMED:
            self.left.setdefault(label, what)

    def _before_rows(self) -> Iterator[bytes]:
        if self._splitter.entry is None:
            return
        if not self._rows:
            yield from _cell(FIRST_ROWS)
        self._rows += 1
        yield from _cell(ROWS_BEGIN)

    def _after_rows(self) -> Iterator[bytes]:
        if self._splitter.entry is not None:
            yield from _cell(ROWS_END)

    def _insert(self, text: bytes) -> Iterator[bytes]:
        if self._stays():
            return
        self._note(text)
        self._inserts.append(text if self._inserts else self._number(self._splitter.number) + text)
        self._inserts_size += len(text)
        if self._inserts_size >= _BATCH:
            yield from self._flush()

    def _asks_for_rows(self, text: bytes) -> bool:
        if _COPY.fullmatch(text):
            return True
        if _FROM_STDIN.search(text):
            raise LoadFailed(f"{self._named()} is a COPY with options that are not known: its rows cannot be found")
        return False

    def _is_left_out(self, text: bytes) -> bool:
        if _CONTROL.match(text):
            if _OWN_TRANSACTION.fullmatch(text):
                return True
            raise LoadFailed(f"{self._named()} is a transaction command of the dump's own: it is refused")
        if _EXTENSION.match(text):
            return True
        if _OWNERS.fullmatch(text):
            if self._splitter.entry is None:
                self.left_out["owners"] += 1
            return True
        if self._foreign and RIGHTS.match(text) and not narrows(text):
            self.left_out["grants"] += 1
            self._name("grants", label_of(text, self._splitter.entry))
            return True
        if setting := _SET.fullmatch(text):
            name = setting[1].decode().lower()
            if name in self._unknown:
                self.left_out[name] += 1
                return True
            if name == "standard_conforming_strings":
                self._splitter.escapes = setting[2].lower() in _OFF
        return False

    def _note(self, text: bytes) -> None:
        self._made += _MAKES.match(text) is not None

    def _flush(self) -> Iterator[bytes]:
        if self._inserts:
            text, self._inserts, self._inserts_size = b";".join(self._inserts), [], 0
            yield from _cell(text)

    def _number(self, number: int) -> bytes:
        """By which an error is known: psql prints the statement with it."""
        return b"/* %d */ " % number

    def _named(self) -> str:
        return f"Statement {self._splitter.number} of the dump"


def _cell(text: bytes) -> Iterator[bytes]:
    yield _OPEN
    yield b64encode(text)
    yield _CLOSE
