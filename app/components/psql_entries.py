"""What pg_dump says before each entry of a script, and how an entry that may not be the account's to make is tried.

pg_dump writes `-- Name: t; Type: TABLE; Schema: public; Owner: shop` before what makes each object. Whether the
account may make it, only the server knows: such a statement runs in a block of its own, and where the server answers
that the object is there already, or is an administrator's to make, it is left out and named by a setting of the
session, which is read before COMMIT.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

_LINE = re.compile(rb" (?:Data for )?Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: ([^;\r\n]*)")
#: Refused with insufficient_privilege where they are an administrator's.
_ADMINISTRATORS = frozenset(
    (
        "ACCESS METHOD",
        "AGGREGATE",
        "CAST",
        "EVENT TRIGGER",
        "EXTENSION",
        "FOREIGN DATA WRAPPER",
        "FUNCTION",
        "OPERATOR CLASS",
        "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE",
        "PROCEDURE",
        "PUBLICATION",
        "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA",
        "SERVER",
        "SHELL TYPE",
        "SUBSCRIPTION",
        "TEXT SEARCH PARSER",
        "TEXT SEARCH TEMPLATE",
        "TRANSFORM",
        "TYPE",
        "USER MAPPING",
    )
)
#: Of these one may be there that is another's: what was the account's has been dropped.
_THERE = frozenset(
    (
        "COLLATION",
        "CONVERSION",
        "DOMAIN",
        "MATERIALIZED VIEW",
        "OPERATOR",
        "SCHEMA",
        "STATISTICS",
        "TEXT SEARCH CONFIGURATION",
        "TEXT SEARCH DICTIONARY",
        "VIEW",
    )
)
#: Their expressions run while they are made.
_EVALUATED = frozenset(("INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "MATERIALIZED VIEW DATA"))
#: What makes no object that has an owner.
_PARTS = (
    "DATA",
    "ACL",
    "COMMENT",
    "SECURITY",
    "SET",
    "ATTACH",
    "OWNED",
    "DEFAULT",
    "CONSTRAINT",
    "EXTENSION",
    "BLOBS",
)
_OF_RELATION = frozenset(
    (
        "CHECK CONSTRAINT",
        "CONSTRAINT",
        "DEFAULT",
        "FK CONSTRAINT",
        "FOREIGN TABLE",
        "POLICY",
        "ROW SECURITY",
        "RULE",
        "SEQUENCE",
        "SEQUENCE OWNED BY",
        "SEQUENCE SET",
        "TABLE",
        "TABLE ATTACH",
        "TABLE DATA",
        "TRIGGER",
    )
)
DUPLICATES = ("42710", "42723", "42P07", "42P06", "23505")
_NOT_ALLOWED = ("42501", "42P13", "0A000", "58P01")
_NOT_THERE = ("42704", "42883", "42P01")
#: What a CREATE, a GRANT or a COMMENT says of a function or table that it does not find on an empty search path.
_UNRESOLVED = ("42883", "42P01", "42704", "42703")

RIGHTS = re.compile(rb"(?:GRANT|REVOKE|ALTER\s+DEFAULT\s+PRIVILEGES)\b", re.IGNORECASE)
_ABOUT = re.compile(rb"(?:COMMENT\s+ON|SECURITY\s+LABEL)\b", re.IGNORECASE)
_CREATE = re.compile(rb"CREATE\b", re.IGNORECASE)
_NARROWS = re.compile(
    rb"(?:ALTER\s+DEFAULT\s+PRIVILEGES\s.*)?REVOKE\b[^;]*\sFROM\s+(?:PUBLIC)\s*", re.IGNORECASE | re.DOTALL
)
_SHOWN = 150


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a dump, as pg_dump names it; `owner` is empty where it does not tell."""

    name: str
    type: str
    schema: str
    owner: str

    @property
    def label(self) -> str:
        place = f"{self.schema}." if self.schema != "-" else ""
        return f"{self.type} {place}{self.name}"[:_SHOWN]

    @property
    def makes_object(self) -> bool:
        return not any(word in self.type for word in _PARTS) and self.owner not in ("", "-")

    def belongs_to(self, relations: frozenset[tuple[str, str]]) -> bool:
        """Whether it is one of these relations (schema, name), or a part of one."""
        if self.type not in _OF_RELATION:
            return False
        words = self.name.split(" ")
        names = (" ".join(words[:end]) for end in range(1, min(len(words), 64) + 1))
        return any((self.schema, name) in relations for name in names)


def entry_of(comment: bytes) -> Entry | None:
    found = _LINE.match(comment)
    if found is None:
        return None
    name, kind, schema, owner = (part.decode("utf-8", "replace").strip() for part in found.groups())
    return Entry(name, kind, schema, owner)


def narrows(text: bytes) -> bool:
    """Whether a statement about rights only takes some from everybody."""
    return _NARROWS.fullmatch(text) is not None


def label_of(text: bytes, entry: Entry | None) -> str:
    """What to call it in a warning: never what a comment says."""
    if _ABOUT.match(text):
        return f"COMMENT ON {entry.name}" if entry else "COMMENT"
    if RIGHTS.match(text) or entry is None:
        return " ".join(text[:_SHOWN].decode("utf-8", "replace").split())
    return entry.label


def tried(text: bytes, entry: Entry | None, *, others: bool) -> bytes | None:
    """A block that leaves out what the server says is not the account's, or None: it must succeed as it is.

    `others`: whether relations of other roles are in the database, which the account can neither index nor refresh.
    """
    if RIGHTS.match(text) or _ABOUT.match(text):
        return _block(text, entry, (*_NOT_THERE, "42501", "0LP01", "0A000"), "")
    if entry is None:
        return None
    if entry.type in _EVALUATED:
        tolerated = ("42501", "42P07") if others and not entry.type.endswith("CONSTRAINT") else ()
        return _block(text, entry, tolerated, "", again=True)
    if entry.type not in _ADMINISTRATORS and entry.type not in _THERE:
        return None
    if not _CREATE.match(text):
        return _block(text, entry, ("42501", *_NOT_THERE), "")
    if entry.type == "SCHEMA":
        there = f"pg_catalog.to_regnamespace(pg_catalog.quote_ident({_text(entry.name.encode())})) IS NULL"
        return _block(text, entry, (*DUPLICATES, "42501"), there)
    if entry.type in _THERE:
        return _block(text, entry, DUPLICATES, "")
    refused = ""
    if entry.schema != "-":  # else it is the schema that keeps the account from making anything
        refused = f"NOT pg_catalog.has_schema_privilege({_text(entry.schema.encode())}, 'CREATE')"
    return _block(text, entry, (*DUPLICATES, *_NOT_ALLOWED), refused)


def _block(
    text: bytes, entry: Entry | None, tolerated: tuple[str, ...], unless: str, *, again: bool = False
) -> bytes:
    """`again`: with the search path of the account's own sessions, where a name is not found without."""
    label = b64encode(label_of(text, entry).encode()).decode()
    run = f"EXECUTE {_text(text)};"
    handlers = ""
    if tolerated:
        codes = " OR ".join(f"SQLSTATE '{code}'" for code in tolerated)
        check = f"IF {unless} THEN RAISE; END IF; " if unless else ""
        handlers += f" WHEN {codes} THEN {check}{_noted('SQLSTATE', label)}"
    if again:
        codes = " OR ".join(f"SQLSTATE '{code}'" for code in _UNRESOLVED)
        handlers += f" WHEN {codes} THEN {USE_PATH}{run}{LEAVE_PATH}{_noted(chr(39) + 'path' + chr(39), label)}"
    first = (re.match(rb"[ -~]{0,100}", text) or [b""])[0]
    return b"-- %s\nDO $liberu$ BEGIN %s EXCEPTION%s END $liberu$" % (first, run.encode(), handlers.encode())


def _text(value: bytes) -> str:
    encoded = b64encode(value).decode()
    return f"pg_catalog.convert_from(pg_catalog.decode('{encoded}', 'base64'), pg_catalog.pg_client_encoding())"


#: In PL/pgSQL: to the search path of the account's own sessions (FIND_PATH), and back to what pg_dump sets.
USE_PATH = (
    "PERFORM pg_catalog.set_config('search_path', pg_catalog.current_setting('liberu.path'), true) "
    "WHERE pg_catalog.current_setting('search_path') IN ('', '\"\"'); "
)
LEAVE_PATH = (
    "PERFORM pg_catalog.set_config('search_path', '', true) WHERE pg_catalog.current_setting('search_path') "
    "= pg_catalog.current_setting('liberu.path'); "
)
#: Around rows: what their constraints call finds what it finds in the account's own sessions. No name of the COPY's
#: is looked for on the path, but where a column holds names of functions, which more of them would make ambiguous.
ROWS_BEGIN = f"DO $liberu$ BEGIN {USE_PATH}END $liberu$".encode()
ROWS_END = f"DO $liberu$ BEGIN {LEAVE_PATH}END $liberu$".encode()
FIRST_ROWS = b"""DO $liberu$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.atttypid IN
  ('pg_catalog.regproc'::pg_catalog.regtype, 'pg_catalog.regoper'::pg_catalog.regtype) AND a.attrelid >= 16384)
  THEN PERFORM pg_catalog.set_config('liberu.path', '', true); END IF; END $liberu$"""
_MOST_NAMED = 20_000  # characters


def _noted(code: str, label: str) -> str:
    return (
        "PERFORM pg_catalog.set_config('liberu.count', "
        "(pg_catalog.current_setting('liberu.count')::pg_catalog.int4 + 1)::pg_catalog.text, true); "
        f"IF pg_catalog.length(pg_catalog.current_setting('liberu.named')) < {_MOST_NAMED} THEN "
        "PERFORM pg_catalog.set_config('liberu.named', pg_catalog.concat("
        f"pg_catalog.current_setting('liberu.named'), ' ', {code}, ':{label}'), true); END IF; "
    )


#: Before the load. Of the account's search path, what it owns: who may put a function elsewhere is not known.
FIND_PATH = """SET LOCAL liberu.count = '0';
SET LOCAL liberu.named = '';
SELECT pg_catalog.set_config('liberu.path', coalesce((SELECT pg_catalog.string_agg(pg_catalog.quote_ident(n.nspname),
  ', ' ORDER BY p.place) FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY p (name, place)
  JOIN pg_catalog.pg_namespace n ON n.nspname = p.name
  WHERE pg_catalog.pg_has_role(n.nspowner, 'USAGE')), ''), true) \\gset liberu_
"""
#: Right before COMMIT.
TELL_LEFT = """SELECT pg_catalog.concat('liberu left ', pg_catalog.current_setting('liberu.count'),
  pg_catalog.current_setting('liberu.named'));
"""
_TOLD = re.compile(rb"^liberu left (\d{1,9})((?: [0-9A-Za-z]{4,5}:[A-Za-z0-9+/=]*)*)$", re.MULTILINE)


def left_of(printed: bytes) -> tuple[int, list[tuple[str, str]]] | None:
    """How many were left out, and of the first the code and label. None: it was not told."""
    found = _TOLD.findall(printed)
    if not found:
        return None
    count, names = found[-1]
    pairs = (item.split(b":", 1) for item in names.split())
    return int(count), [(code.decode(), b64decode(label).decode("utf-8", "replace")) for code, label in pairs]
