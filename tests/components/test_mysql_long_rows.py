"""INSERTs larger than a packet: what the variables are given is what stood there."""

from __future__ import annotations

import random
import re

import pytest

from app.components.mysql_dump import Inventory
from app.components.mysql_script import MysqlScript
from app.errors import LoadFailed

PACKET = 100_000
_VALUE = re.compile(rb"@liberu_\d+|0x[0-9A-Fa-f]*|'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_SET = re.compile(
    rb"SET (@liberu_\d+) = (?:NULL|(CONCAT\(@liberu_\d+, )?(?:_binary )?(0x[0-9A-Fa-f]*|'(?:[^'\\]|\\.|'')*')\)?);\n",
    re.DOTALL,
)


def _bytes(value: bytes) -> bytes:
    if value.startswith(b"0x"):
        return bytes.fromhex(value[2:].decode())
    return re.sub(
        rb"\\(.)|''", lambda found: {b"n": b"\n"}.get(found[1], found[1] or b"'"), value[1:-1], flags=re.DOTALL
    )


def _literal(chance: random.Random) -> bytes:
    size = chance.choice([3, 5_000, 40_000, 90_000])
    if chance.random() < 0.5:
        return b"0x" + chance.randbytes(size).hex().upper().encode()
    text = "".join(chance.choice("a'\\é😀b0x\"`;,\n") for _ in range(size // 2)).encode().replace(b"\\", b"\\\\")
    if chance.random() < 0.5:
        return b"_binary '" + text.replace(b"'", b"\\'").replace(b"\n", b"\\n") + b"'"
    return b"'" + text.replace(b"'", b"''") + b"'"


def _passed(dump: bytes, chance: random.Random) -> bytes:
    script, passed, at = MysqlScript("shop"), b"", 0
    script.suits(Inventory(server="10.11-MariaDB", packet=PACKET))
    while at < len(dump):
        size = chance.choice([1_000, 7, 50_000])
        passed += b"".join(script.feed(dump[at : at + size]))
        at += size
    return passed + b"".join(script.finish())


@pytest.mark.parametrize("seed", range(20))
def test_every_byte_of_a_long_row_arrives(seed: int) -> None:
    chance = random.Random(seed)
    values = [_literal(chance) for _ in range(chance.randint(1, 5))]
    begun = chance.choice([b"INSERT INTO `t` VALUES\n(1,%b);\n", b"INSERT INTO `t` VALUES (10,0,%b);\n"])
    long = begun % b",".join(values)
    passed = _passed(b"INSERT INTO `u` VALUES\n(1,'a'),\n(2,'b');\n" + long + b"-- Dump completed\n", chance)
    made: dict[bytes, bytes] = {}
    for statement in _SET.finditer(passed):
        assert len(statement[0]) < PACKET
        if statement[3] is not None:
            made[statement[1]] = (made[statement[1]] if statement[2] else b"") + _bytes(statement[3])
    left = _SET.sub(b"", passed)
    row = left[left.index(b"INSERT INTO `t`") :]
    arrived = [made[value] if value.startswith(b"@") else _bytes(value) for value in _VALUE.findall(row)]
    assert arrived == [_bytes(value.removeprefix(b"_binary ")) for value in values]
    assert len(row) < PACKET
    assert left.startswith(b"INSERT INTO `u` VALUES\n(1,'a'),\n(2,'b');\n")


def test_a_value_that_the_server_would_make_null_of_is_refused() -> None:
    dump = b"INSERT INTO `t` VALUES (1,0x%b);\n-- Dump completed\n" % (b"00" * (PACKET + 1))
    with pytest.raises(LoadFailed, match=r"larger than the 100000 bytes that the server takes .* in `t`"):
        _passed(dump, random.Random(1))


_ROW = re.compile(rb"\((?:[^()'\"]|'(?:[^'\\]|\\.|'')*'|\"[^\"]*\")*\)")
_STATEMENT = re.compile(rb"INSERT INTO `t` (?:\(`a`, `b\(`\) )?VALUES\s*((?:%b,?\s*)+);\n" % _ROW.pattern, re.DOTALL)


def _short_row(chance: random.Random) -> bytes:
    texts = [
        b"'),(1,'",
        b"'it''s (\\\\'",
        b"'\\'),('",
        b"0x00FF",
        b"10",
        b"0",
        b"-1.5e10",
        b"NULL",
        b"_binary 'a(;'",
        b'"("',
    ]
    return b"(%b)" % b",".join(chance.choice([*texts, b"'%b'" % (b"x" * 3_000)]) for _ in range(chance.randint(1, 6)))


@pytest.mark.parametrize("seed", range(20))
def test_a_statement_of_many_rows_is_cut_between_two(seed: int) -> None:
    """As large as the server took that it comes from, into one that takes less."""
    chance = random.Random(seed)
    rows = [_short_row(chance) for _ in range(4_000)]
    head = chance.choice(
        [b"INSERT INTO `t` VALUES ", b"INSERT INTO `t` VALUES\n", b"INSERT INTO `t` (`a`, `b(`) VALUES "]
    )
    between = b",\n" if head.endswith(b"\n") else b","
    passed = _passed(head + between.join(rows) + b";\n-- Dump completed\n", chance)
    statements = list(_STATEMENT.finditer(passed))
    assert b"".join(found[0] for found in statements) == passed[: passed.rindex(b"-- Dump")].rstrip() + b"\n"
    assert [row for found in statements for row in _ROW.findall(found[1])] == rows
    assert max(len(found[0]) for found in statements) < PACKET
    assert min(len(found[0]) for found in statements[:-1]) > PACKET * 0.7


def test_long_values_in_one_of_many_rows() -> None:
    """The variables of rows that are in are given back."""
    rows = [b"(%d,'short (')" % number for number in range(9_000)]
    rows[3_000:3_000] = [b"(1,0x%b)" % (b"5C" * 60_000)] * 2
    passed = _passed(b"INSERT INTO `t` VALUES " + b",".join(rows) + b";\n-- Dump completed\n", random.Random(1))
    assert b"SET @liberu_1 = NULL;" in passed[: passed.index(b"(8000,")]
    left = _SET.sub(b"", passed)
    assert max(len(found[0]) for found in _STATEMENT.finditer(left)) < PACKET
    arrived = [row for found in _STATEMENT.finditer(left) for row in _ROW.findall(found[1])]
    assert [re.sub(rb"@liberu_\d", b"0x" + b"5C" * 60_000, row) for row in arrived] == rows


def test_a_statement_that_means_all_its_rows_is_not_cut_unseen() -> None:
    rows = b",".join([b"(1,'a')"] * 30_000)
    with pytest.raises(LoadFailed, match="depends on all of them"):
        _passed(
            b"INSERT INTO `t` VALUES " + rows + b" ON DUPLICATE KEY UPDATE a = 1;\n-- Dump completed\n",
            random.Random(1),
        )
