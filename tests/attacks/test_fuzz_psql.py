"""Scripts made to deceive, through our loader to the real psql and a real server, for as long as FUZZ_SECONDS says.

psql runs with all that this process may, so that nothing but what it is sent keeps it from making the marker or from
calling the host that listens. What is live is the old or the new, as the loader says.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.archives.streams import ByteStream
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.errors import LoadFailed
from demo.servers import PostgresqlServer, postgresql_server
from tests.attacks.hostile_scripts import dump, shells
from tests.components.helpers import Context, Unconfined

SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))

QUOTES = [
    b"'", b"''", b'"', b"E'", b"U&'", b"B'", b"$$", b"$a$", b"$\xc3\xa9$", b"a$a$", b"\xc3\xa9$$", b"1$$", b"\\'",
    b"\x81\\", b"\x81'", b"\xff", b"--", b"/*", b"*/", b"(", b")", b";", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\f",
    b":'made'", b":{?x}", b"`", b"\\", b"\\\\", b"$1", b"-", b"/", b"e", b",",
]  # fmt: skip
SQL = [
    b"SELECT 1", b"SELECT ", b"AS x", b"CREATE TABLE public.t (a text)", b"INSERT INTO public.made VALUES ('",
    b"INSERT INTO public.made VALUES ('x');\nINSERT INTO public.made VALUES ('y');\n", b"BEGIN ATOMIC ", b"END",
    b"CASE ", b"CREATE FUNCTION public.f() RETURNS int ", b"CREATE RULE r AS ON INSERT TO public.made DO ALSO ",
    b"COMMIT",
    b"ROLLBACK", b"BEGIN", b"SAVEPOINT s", b"SET search_path = public", b"DO $$ BEGIN END $$",
    b"SET standard_conforming_strings = off", b"SET standard_conforming_strings = on", b"SET backslash_quote = on",
    b"SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false)", b"SET client_encoding = 'SJIS'",
    b"SET client_encoding = 'LATIN1'", b"SET client_encoding = 'GB18030'", b"SET client_encoding = 'SQL_ASCII'",
    b"SELECT pg_catalog.set_config('client_encoding', 'BIG5', false)",
]  # fmt: skip
COPIES = [
    b"COPY public.made FROM stdin;\n", b'COPY "public"."made" ("a") FROM STDIN ;\n', b"COPY public.made FROM stdin",
    b"COPY public.made FROM stdin\n;\n", b"COPY public.made FROM stdin WITH (FORMAT csv);\n",
    b"COPY (SELECT 1) TO STDOUT;\n", b"copy public.made from stdin CSV;\n", b"COPY public.made TO STDOUT;\n",
    b"COPY public.no FROM stdin;\n", b"COPY public.v FROM stdin;\n",
    b"\\.\n", b"\\.\r\n", b"\\.", b"\n\\.\n", b"\r\n\\.\r\n", b"\\.\r", b"row\n",
    b"\\N\n", b"x" * 8185, b"x" * 8191, b"\0",
]  # fmt: skip


class Attacker:
    """Writes scripts: what deceives, more or less changed, and commands in between."""

    def __init__(self, seed: str, marker: Path, port: int) -> None:
        self.rng = random.Random(seed)
        host = b"'host=127.0.0.1 port=%d connect_timeout=2'" % port
        touch = b"touch %s" % bytes(marker)
        self.commands = [
            b"\\! " + touch, b"\\c " + host, b"\\connect " + host, b"\\copy public.made to program '" + touch + b"'",
            b"\\o |" + touch, b"\\g |" + touch, b"SELECT 1 \\g |" + touch, b"\\set x `" + touch + b"`\n",
            b"\\w |" + touch, b"\\i /etc/passwd", b"\\set ON_ERROR_STOP off", b"\\unset ON_ERROR_STOP", b"\\q",
            b"\\gexec", b"\\if false", b"\\endif", b"\\setenv PAGER '" + touch + b"'", b"\\watch", b"\\gset x",
            b"\\lo_export 1 " + bytes(marker), b"\\s " + bytes(marker), b"\\e", b"\\restrict x", b"\\unrestrict x",
        ]  # fmt: skip

    def script(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.4:
            content = bytearray(rng.choice(list(shells(rng.choice(self.commands)).values()))[: 20 << 10])
            for _ in range(rng.randint(0, 6)):
                self._change(content)
            return dump(bytes(content))
        pieces = []
        for _ in range(rng.randint(1, 25)):
            kind = rng.random()
            pieces.append(
                rng.choice(QUOTES if kind < 0.4 else SQL if kind < 0.6 else COPIES if kind < 0.8 else self._own())
            )
            if rng.random() < 0.5:
                pieces.append(rng.choice([b"\n", b";\n", b"\n"]))
        body = b"".join(pieces)
        return dump(body) if rng.random() < 0.8 else body

    def _own(self) -> list[bytes]:
        return [b"\n%s\n" % self.rng.choice(self.commands), self.rng.choice(self.commands)]

    def _change(self, content: bytearray) -> None:
        rng = self.rng
        at = rng.randrange(len(content) + 1)
        if rng.random() < 0.7:
            content[at:at] = rng.choice(QUOTES + SQL + COPIES + self._own())
        else:
            del content[at : at + rng.randrange(1, 12)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        started.run("CREATE ROLE owner LOGIN PASSWORD 'owner-pw'")
        started.run("CREATE DATABASE shop OWNER owner")
        started.run("ALTER SCHEMA public OWNER TO owner", "shop")
        yield started


@pytest.mark.timeout(SECONDS + 120)
async def test_no_script_makes_psql_run_or_call_anything(server: PostgresqlServer, tmp_path: Path) -> None:
    called: list[bytes] = []

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(await reader.read(100))
        writer.close()

    seed = os.environ.get("FUZZ_SEED", "1")
    loaded = refused = 0
    async with await asyncio.start_server(answered, "127.0.0.1", 0) as listening:
        attacker = Attacker(seed, tmp_path / "marker", listening.sockets[0].getsockname()[1])
        component = PostgresqlComponent(
            Unconfined(), PostgresqlTarget("shop", "owner", "owner-pw", "127.0.0.1", server.port)
        )
        with psycopg.connect(
            host="127.0.0.1", port=server.port, user="owner", password="owner-pw", dbname="shop", autocommit=True
        ) as live:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                live.execute("CREATE TABLE IF NOT EXISTS public.old (a int)")
                content = attacker.script()
                size = attacker.rng.choice([1 << 20, 300, 7])
                told = "restored"
                try:
                    async with asyncio.timeout(120):
                        await component.restore(_pieces(content, size), Context().context, len(content))
                except LoadFailed as error:
                    told = error.message
                is_old = live.execute("SELECT to_regclass('public.old') IS NOT NULL").fetchone() == (True,)
                if told == "restored":
                    loaded += 1
                    assert not is_old, content
                elif "ended the restore's transaction by itself" not in told:
                    refused += 1
                    assert is_old, content
                    assert told.endswith("nothing was changed"), content
                assert not list(tmp_path.iterdir()), content
                assert not called, content
    assert loaded
    assert refused


async def _pieces(content: bytes, size: int) -> ByteStream:
    for start in range(0, len(content), size):
        yield content[start : start + size]
