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
