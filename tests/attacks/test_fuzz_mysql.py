"""Hostile scripts by the thousand through our loader, the real client and a real server: nothing runs, nothing is
written, nobody is called, and the neighbour's data stays; for as long as FUZZ_SECONDS says."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from app.archives.streams import from_bytes
from app.errors import LiberuError
from demo.servers import MariadbServer
from tests.attacks.test_mysql import (
    ADMINISTRATION,
    DEFINERS,
    LEFT_BEHIND,
    LETTERS,
    NAMES,
    PLACES,
    Victim,
    other,
    server,
    victim,
)
from tests.components.helpers import Context, MemorySafety
from tests.components.test_mysql_script import PHPMYADMIN

__all__ = ["MariadbServer", "other", "server", "victim"]

SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
GLUE = (
    b"\n", b"\r\n", b"\r", b" ", b";", b";\n", b"'", b'"', b"`", b"\\", b"\\'", b"/*", b"*/", b"/*!", b"/*!50000 ",
    b"/*M!100000 ", b"-- ", b"--", b"#", b"\0", b"\xef\xbb\xbf", b"\x81", b"\xbf\x5c", b"DELIMITER //\n", b"//",
    b"$$",
    b"DELIMITER ;\n", b"delimiter \\\n", b"DELIMITER '\n", b"\\C sjis ", b"\\C gbk\n",
    b"SET sql_mode='ANSI_QUOTES';\n",
    b"SET sql_mode='NO_BACKSLASH_ESCAPES';\n", b"SET NAMES gbk;\n", b"SET character_set_client=sjis;\n", b"\\N",
    b"\\g",
    b"\\G", b"/*M!999999\\- enable the sandbox mode */\n", b"USE ", b"(", b")", b",", b"INSERT INTO shop VALUES (1,'",
    b"x" * 70_000, b"-- Dump completed\n",
)  # fmt: skip


def hostile(rng: random.Random, what: Victim, neighbour: str) -> bytes:
    """Pieces that mean something to the client, to the server or to our reader, in any order."""
    marker = str(what.marker)

    def command() -> bytes:
        letter = rng.choice("!!.eTPrru" if rng.random() < 0.7 else LETTERS)
        argument = f"{what.target.name} 127.0.0.2" if letter in "ru" else f"sh -c 'id > {marker}'"
        return f"\\{letter} {argument}".encode()

    def named() -> bytes:
        name = rng.choice(("connect", "system", "tee") if rng.random() < 0.7 else NAMES)
        argument = {"connect": f"{what.target.name} 127.0.0.2", "system": f"id > {marker}"}.get(name, marker)
        return f"{name} {argument}".encode()

    def statement() -> bytes:
        text = rng.choice([*ADMINISTRATION, *LEFT_BEHIND])
        stands = marker if text in ADMINISTRATION else rng.choice(DEFINERS)
        text = text.replace("{other}", neighbour).replace("{admin}", "1").replace("{}", stands)
        return text.encode() + b";"

    def part() -> bytes:
        at = rng.randrange(len(PHPMYADMIN))
        return PHPMYADMIN[at : at + rng.randrange(400)]

    pieces: tuple[Callable[[], bytes], ...] = (
        command, named, statement, part, lambda: rng.choice(PLACES).replace(b"%b", command()),
        lambda: rng.randbytes(rng.randrange(20)), lambda: rng.choice(GLUE), lambda: rng.choice(GLUE),
    )  # fmt: skip
    return b"".join(rng.choice(pieces)() for _ in range(rng.randint(1, 40)))


def seeds() -> Iterator[int]:
    end = time.monotonic() + SECONDS
    number = SEED * 1_000_000
    while time.monotonic() < end:
        yield number
        number += 1


@pytest.mark.timeout(SECONDS + 120)
async def test_hostile_scripts_do_nothing(victim: Victim, other: str) -> None:
    """Most go to the client as they are; some through a whole restore, which takes longer."""
    for seed in seeds():
        rng = random.Random(seed)
        script = hostile(rng, victim, other)
        if rng.random() < 0.8:
            await victim.load(script)
        else:
            component = victim.component(admin=rng.random() < 0.5)
            context = Context(safety=MemorySafety(component.dump)).context
            with suppress(LiberuError):
                foreign = replace(context, foreign=rng.random() < 0.8)
                await component.restore(from_bytes(script), foreign, len(script))
        assert victim.unharmed(), (seed, script)
        assert victim.server.run(f"SELECT id FROM {other}.theirs; SHOW DATABASES LIKE 'evil'") == "1", (seed, script)
