"""What a statement of a dump is, from its beginning. Nothing depends on it but what is loaded when: whoever loads it
may do nothing beside, and the client has no commands (mysql_client)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

Kind = Literal["table", "object", "event", "setting", "names", "database", "binlog", "lock", "mode"]

_FLAGS = re.IGNORECASE | re.DOTALL
#: Between words: white space, comments, and the borders of comments that are executed (/*!50003 … */).
_SPACE = rb"(?:\s++|--[^\n]*+\n|\#[^\n]*+\n|/\*M?!\d{0,6}+|/\*(?!!|M!)(?:[^*]++|\*(?!/))*+\*/|\*/)*+"
_PART = rb"(?:`(?:[^`]|``)*+`|'(?:[^'\\]|\\.|'')*+'|\"(?:[^\"\\]|\\.|\"\")*+\"|[\w$.%\-]++)"
#: A word only when its end has come.
_IDENTIFIER = rb"`(?:[^`]|``)*+`|\"(?:[^\"]|\"\")*+\"|[\w$]++(?=[^\w$])"
_ACCOUNT = _PART + rb"(?:" + _SPACE + rb"@" + _SPACE + _PART + rb"|\s*\(\s*\))?"
_BEFORE_DEFINER = (
    rb"CREATE\b" + _SPACE + rb"(?:OR\s+REPLACE\b" + _SPACE + rb")?(?:ALGORITHM\s*=\s*\w+" + _SPACE + rb")?"
)
_DEFINER = rb"DEFINER" + _SPACE + rb"=" + _SPACE + _ACCOUNT
_WHOLE_COMMENT = re.compile(rb"\A(" + _SPACE + rb"CREATE\s*\*/\s*)/\*M?!\d{5,6}\s+" + _DEFINER + rb"\s*\*/ ?", _FLAGS)
_WITHIN = re.compile(rb"\A(" + _SPACE + _BEFORE_DEFINER + rb")" + _DEFINER + rb"(?=\W)", _FLAGS)
_OBJECT = re.compile(
    rb"\A" + _SPACE + rb"(?:DROP\b" + _SPACE + rb"|" + _BEFORE_DEFINER + rb"(?:" + _DEFINER + _SPACE + rb")?"
    rb"(?:SQL\s+SECURITY\s+\w+" + _SPACE + rb")?(?:AGGREGATE\b" + _SPACE + rb")?)"
    rb"(VIEW|TRIGGER|PROCEDURE|FUNCTION|PACKAGE|EVENT)\b",
    _FLAGS,
)  # fmt: skip
_VIEW = re.compile(
    rb"VIEW\b" + _SPACE + rb"(?:IF\s+(?:NOT\s+)?EXISTS\b" + _SPACE + rb")?(?:`(?:[^`]|``)*+`\.)?(`(?:[^`]|``)*+`)",
    _FLAGS,
)
_NAMED = re.compile(
    rb"(VIEW|TRIGGER|PROCEDURE|FUNCTION|PACKAGE|EVENT)\b" + _SPACE + rb"(BODY\b" + _SPACE + rb")?"
    rb"(?:IF\s+(?:NOT\s+)?EXISTS\b" + _SPACE + rb")?(?:(?:" + _IDENTIFIER + rb")\.)?(" + _IDENTIFIER + rb")",
    _FLAGS,
)
#: What is no name: texts, and comments that are not executed.
_TEXTS = rb"'(?:[^'\\]|\\.|'')*+'|--[ \t][^\n]*+|\#[^\n]*+|/\*(?!!|M!)(?:[^*]++|\*(?!/))*+\*/"
_MADE_TABLE = re.compile(rb"CREATE (TABLE|SEQUENCE) (?:IF NOT EXISTS )?(`(?:[^`]|``)*+`)")
#: One statement's rows are in or not either way; a sequence that is a column's default would have to be locked too.
_LOCK = re.compile(rb"\A" + _SPACE + rb"(?:UN)?LOCK\s+TABLES?\b", _FLAGS)
#: What all of a dump's literals are written for. Rows hold dates that are none, if they were allowed when they came.
_MODE = re.compile(rb"\A(/\*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO)(' \*/)")
#: What stood for a view, in dumps of older programs.
_STAND_IN = re.compile(rb"\A/\*!50001 DROP TABLE IF EXISTS ")
#: Session settings around triggers, routines, events and views; they travel with them.
_SETTING = re.compile(rb"\A/\*!(?:50001|50003|50106) SET ")
_NAMES = re.compile(rb"\A" + _SPACE + rb"SET\s+NAMES\b", _FLAGS)
_QUOTED = rb"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\""
_PATH = re.compile(
    _QUOTED + rb"|(\b(?:next|last)val\()?(`(?:[^`]|``)*+`)\.(`(?:[^`]|``)*+`)(\.`(?:[^`]|``)*+`)?|`(?:[^`]|``)*+`",
    _FLAGS,
)
_BINLOG = re.compile(
    rb"\A" + _SPACE + rb"SET\s+(?:@MYSQLDUMP_TEMP_LOG_BIN\b|(?:@@)?(?:(?:SESSION|GLOBAL|LOCAL)\b[.\s]\s*)?"
    rb"(?:SQL_LOG_BIN|GTID_PURGED|GTID_SLAVE_POS)\b)",
    _FLAGS,
)  # fmt: skip
_DATABASE = re.compile(
    rb"\A" + _SPACE + rb"(?:USE\b|(CREATE|DROP|ALTER)\s+(?:DATABASE|SCHEMA)\b)" + _SPACE
    + rb"(?:IF\s+(?:NOT\s+)?EXISTS\b" + _SPACE + rb")?(`(?:[^`]|``)*`|[\w$\-]+)?",
    _FLAGS,
)  # fmt: skip
_USE = re.compile(rb"USE[ \t]+(`(?:[^`\n]|``)*`|[\w$\-]+)[ \t]*;?\s*", re.IGNORECASE)
#: What the heads of dumps of mysqldump and phpMyAdmin say of where they come from.
_COMES_FROM = re.compile(
    rb"^-- (?:Host: [^\n]*? {4}Database: ([^\n]+)|(?:Current )?Database: `([^`\n]+)`) *$", re.MULTILINE
)
#: MySQL 8's collations, its default among them, after Unicode 9; the nearest that every MariaDB has is Unicode 5.2.
_COLLATION = re.compile(rb"\butf8mb4_(?:[a-z]{2}_)?0900_[a-z_]+\b")


def kind_of(statement: bytes) -> Kind:
    if found := _OBJECT.match(statement):
        return "event" if found[1].upper() == b"EVENT" else "object"
    if _STAND_IN.match(statement):
        return "object"
    if _SETTING.match(statement):
        return "setting"
    if _LOCK.match(statement):
        return "lock"
    if _MODE.match(statement):
        return "mode"
    if _NAMES.match(statement):
        return "names"
    if _BINLOG.match(statement):
        return "binlog"
    return "database" if _DATABASE.match(statement) else "table"


def view_of(statement: bytes) -> bytes | None:
    """The view that it makes or drops, in its quotes."""
    found = _OBJECT.match(statement)
    if found is None or found[1].upper() != b"VIEW":
        return None
    named = _VIEW.match(statement, found.start(1))
    return named and named[1]


def made_by(statement: bytes) -> tuple[str, str] | None:
    """Kind and name of what a CREATE of a dump program's makes; None also where too little of it has come to tell. A
    view's stand-in is none."""
    if found := _MADE_TABLE.match(statement):
        return "table", _text(found[2])
    if (named := _named(statement)) is None:
        return None
    kind, name = _kind(named), _text(named[3])
    if kind == "VIEW" and b"ALGORITHM" not in statement[: named.start()].upper():
        return None
    return kind.lower() if kind in {"VIEW", "TRIGGER", "EVENT"} else kind, name


def label_of(statement: bytes) -> str:
    """What it makes, for people."""
    if (named := _named(statement + b" ")) is None:  # it may end with its name
        return statement[:40].decode("utf-8", "replace").strip()
    return f"{_kind(named)} {_text(named[3])}"


def _named(statement: bytes) -> re.Match[bytes] | None:
    """Kind, BODY and name of an object that it makes or drops."""
    found = _OBJECT.match(statement)
    return found and _NAMED.match(statement, found.start(1))


def _kind(named: re.Match[bytes]) -> str:
    return named[1].decode().upper() + (" BODY" if named[2] else "")


def _text(name: bytes) -> str:
    return _bare(name).decode("utf-8", "replace")


def names_database(statement: bytes, names: Collection[bytes]) -> bool:
    """Whether it names something in one of these databases, as `shop`.`orders` or shop.orders."""
    if not any(name in statement for name in names):
        return False
    forms = [rb"`%b`|\"%b\"" % (re.escape(name.replace(b"`", b"``")), re.escape(name)) for name in names]
    forms += [rb"(?<![\w$@.`\"])%b" % re.escape(name) for name in names if re.fullmatch(rb"[\w$]+", name)]
    form = re.compile(
        _TEXTS + rb"|(?<![.`\"])((?:" + b"|".join(forms) + rb")\s*\.\s*[`\"\w])|\"[^\"]*\"|`[^`]*`", _FLAGS
    )
    return any(found[1] for found in form.finditer(statement))


def as_it_was(mode: bytes) -> bytes:
    """Tables and rows came in under rules that were others then."""
    changed = _MODE.sub(rb"\1,ALLOW_INVALID_DATES\2", mode)
    if changed == mode:
        return mode
    return changed + b" /*M!100201 SET check_constraint_checks = 0, innodb_strict_mode = 0 */;"


def without_database(statement: bytes, own: Collection[bytes]) -> bytes:
    """Where MariaDB writes the database's own name: before a sequence, and before a view's columns when the view's
    definer is gone."""

    def shorter(found: re.Match[bytes]) -> bytes:
        ours = found[2] and (found[1] or found[4]) and _bare(found[2]) in own
        return (found[1] or b"") + found[3] + (found[4] or b"") if ours else found[0]

    return _PATH.sub(shorter, statement)


def used_database(line: bytes) -> bytes | None:
    """Of a line that enters a database, which needs no delimiter."""
    found = _USE.fullmatch(line)
    return found and _bare(found[1])


def named_database(statement: bytes) -> tuple[bytes, bytes]:
    """Of a statement about a database: its name, and USE, CREATE, DROP or ALTER."""
    found = _DATABASE.match(statement)
    assert found is not None
    return _bare(found[2] or b""), (found[1] or b"USE").upper()


def _bare(name: bytes) -> bytes:
    quote = name[:1]
    return name[1:-1].replace(quote * 2, quote) if quote in (b"`", b'"') else name


def comes_from(comments: bytes) -> set[bytes]:
    """The databases that a dump's comments say it is of."""
    return {(found[1] or found[2]).strip() for found in _COMES_FROM.finditer(comments)}


def without_definer(statement: bytes) -> bytes:
    """What is created belongs to the account that creates it."""
    shorter, count = _WHOLE_COMMENT.subn(rb"\1", statement, count=1)
    return shorter if count else _WITHIN.sub(rb"\1", statement, count=1)


def with_known_collations(statement: bytes) -> bytes:
    """For a MariaDB."""
    return _COLLATION.sub(b"utf8mb4_unicode_520_ci", statement) if b"_0900_" in statement else statement
