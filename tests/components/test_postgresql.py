"""PostgreSQL: everything comes back in one transaction, or nothing changes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import (
    DatabaseAccessDenied,
    DatabaseNotFound,
    DatabaseUnreachable,
    LiberuError,
    LoadFailed,
    OwnershipLost,
    ToolMissing,
)
from demo.ports import free_port
from demo.servers import PostgresqlServer, postgresql_server
from tests.components.helpers import Context, collect

SAMPLE = r"""
CREATE SCHEMA crm;
CREATE TYPE crm.mood AS ENUM ('sad', 'glad');
CREATE DOMAIN crm.positive AS int CHECK (value > 0);
CREATE TABLE crm.customer (id serial PRIMARY KEY, name text NOT NULL, photo bytea, mood crm.mood, n crm.positive);
CREATE TABLE public.orders (id bigint PRIMARY KEY, customer int REFERENCES crm.customer, note text);
INSERT INTO crm.customer (name, photo, mood, n)
  SELECT 'Zoë \ ''q'' 😀 ' || g, decode(repeat('00ff5c0a', 50), 'hex'), 'glad', g FROM generate_series(1, 3000) g;
INSERT INTO public.orders SELECT g, g, E'line\nbreak\t\\.\n' || g FROM generate_series(1, 3000) g;
CREATE VIEW crm.names AS SELECT name FROM crm.customer;
CREATE MATERIALIZED VIEW crm.counts AS SELECT mood, count(*) FROM crm.customer GROUP BY mood;
CREATE FUNCTION crm.touch() RETURNS trigger LANGUAGE plpgsql AS $fn$
  BEGIN new.name := new.name || '\!'; RETURN new; END $fn$;
CREATE TRIGGER touched BEFORE UPDATE ON crm.customer FOR EACH ROW EXECUTE FUNCTION crm.touch();
COMMENT ON TABLE crm.customer IS 'with a \! backslash';
CREATE TABLE crm.keyed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, begin int);
INSERT INTO crm.keyed (begin) VALUES (1), (2);
CREATE FUNCTION crm.begun() RETURNS bigint LANGUAGE sql
  BEGIN ATOMIC SELECT CASE WHEN k.begin > 0 THEN 1 END FROM crm.keyed k; SELECT count(begin) FROM crm.keyed; END;
CREATE RULE twice AS ON INSERT TO crm.keyed WHERE new.begin = 7 DO ALSO (SELECT 1; SELECT 2);
SELECT lo_from_bytea(0, 'large object');
"""
SUM = """
SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM crm.customer c;
SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM public.orders o;
SELECT count(*) FROM crm.names; SELECT * FROM crm.counts;
SELECT tgname FROM pg_trigger WHERE NOT tgisinternal;
SELECT nextval('crm.customer_id_seq') > 3000; SELECT crm.begun(); SELECT rulename FROM pg_rules
  WHERE schemaname = 'crm'; SELECT lo_get(oid) FROM pg_largeobject_metadata;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        yield started


@pytest.fixture
def target(server: PostgresqlServer) -> Iterator[PostgresqlTarget]:
    server.run("CREATE ROLE owner LOGIN PASSWORD 'owner-pw'; ")
    server.run('CREATE DATABASE "cr m=x" OWNER owner')
    server.run("CREATE EXTENSION pgcrypto; ALTER SCHEMA public OWNER TO owner", '"cr m=x"'.strip('"'))
    server.run(SAMPLE, "cr m=x", "owner", "owner-pw")
    yield PostgresqlTarget("cr m=x", "owner", "owner-pw", "127.0.0.1", server.port)
    server.run('DROP DATABASE "cr m=x" WITH (FORCE)')
    server.run("DROP ROLE owner")


def component(target: PostgresqlTarget) -> PostgresqlComponent:
    return PostgresqlComponent(StandaloneDeployment(), target)


def checksum(server: PostgresqlServer) -> str:
    return server.run(SUM, "cr m=x", "owner", "owner-pw")


async def test_everything_comes_back(server: PostgresqlServer, target: PostgresqlTarget) -> None:
    before = checksum(server)
    dump = await component(target).dump()
    archive = await collect(dump)
    assert dump.report.facts["tables"] == 3
    server.run("UPDATE crm.customer SET name = 'gone'; DROP TABLE public.orders", "cr m=x", "owner", "owner-pw")
    newer = (
        "CREATE TABLE public.newer (c int REFERENCES crm.customer);CREATE VIEW public.dep AS SELECT * FROM crm.names;"
    )
    server.run(newer, "cr m=x", "owner", "owner-pw")
    context = Context()
    await component(target).restore(from_bytes(archive), context.context, len(archive))
    assert context.confirmed == 1
    assert checksum(server) == before
    assert server.run("SELECT count(*) FROM pg_extension WHERE extname = 'pgcrypto'", "cr m=x") == "1"
    assert server.run("SELECT to_regclass('public.newer') IS NULL", "cr m=x") == "t"


async def test_input_cut_anywhere_changes_nothing(server: PostgresqlServer, target: PostgresqlTarget) -> None:
    archive = await collect(await component(target).dump())
    before = checksum(server)
    for cut in [0, 5, 400, *range(3000, len(archive), len(archive) // 25), len(archive) - 3]:
        with pytest.raises(LiberuError):
            await component(target).restore(from_bytes(archive[:cut]), Context().context, len(archive))
    assert checksum(server) == before


async def test_lost_ownership_rolls_back(server: PostgresqlServer, target: PostgresqlTarget) -> None:
    archive = await collect(await component(target).dump())
    server.run("UPDATE crm.customer SET name = 'live'", "cr m=x", "owner", "owner-pw")
    before = checksum(server)
    context = Context()
    context.fail = OwnershipLost("taken over")
    with pytest.raises(OwnershipLost):
        await component(target).restore(from_bytes(archive), context.context, len(archive))
    assert checksum(server) == before


async def test_a_script_that_is_cut_at_every_statement_never_commits(
    server: PostgresqlServer, target: PostgresqlTarget
) -> None:
    """psql commits what it has when its input ends: so COMMIT must come from us, last."""
    before = checksum(server)
    with pytest.raises((LoadFailed, LiberuError)):
        await component(target).restore(from_bytes(b"SELECT 1;\n"), Context().context, 10)
    assert checksum(server) == before


async def test_a_superuser_is_refused(server: PostgresqlServer, target: PostgresqlTarget) -> None:
    admin = PostgresqlTarget("cr m=x", "admin", server.admin_password, "127.0.0.1", server.port)
    archive = await collect(await component(target).dump())
    with pytest.raises(DatabaseAccessDenied, match="superuser"):
        await component(admin).restore(from_bytes(archive), Context().context, len(archive))


async def test_clear_errors(server: PostgresqlServer, target: PostgresqlTarget) -> None:
    for wrong, error in (
        (PostgresqlTarget("cr m=x", "owner", "wrong-pw", "127.0.0.1", server.port), DatabaseAccessDenied),
        (PostgresqlTarget("nowhere", "owner", "owner-pw", "127.0.0.1", server.port), DatabaseNotFound),
        (PostgresqlTarget("cr m=x", "owner", "owner-pw", "127.0.0.1", free_port()), DatabaseUnreachable),
    ):
        with pytest.raises(error) as caught:
            await component(wrong).dump()
        assert "-pw" not in str(caught.value)


async def test_a_client_older_than_the_server_is_passed_over(target: PostgresqlTarget, tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_restore"):
        old = tmp_path / name
        old.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 9.6.24'\n")
        old.chmod(0o755)
    deployment = StandaloneDeployment(search_path=f"{tmp_path}:{SEARCH_PATH}")
    component = PostgresqlComponent(deployment, target)
    content = await collect(await component.dump())
    assert content.startswith(b"PGDMP")
    context = Context()
    await component.restore(from_bytes(content), context.context, len(content))
    with pytest.raises(ToolMissing, match=r"too old for the PostgreSQL 99 of .*install the client programs"):
        await component._find("pg_dump", 99)


def dumped(server: PostgresqlServer, form: str) -> bytes:
    """As whoever administers another server would: with owners and grants."""
    server.run("GRANT SELECT ON crm.customer TO PUBLIC; ALTER TABLE public.orders OWNER TO admin", "cr m=x")
    env = {"PATH": SEARCH_PATH, "PGPASSWORD": server.admin_password, "PGDATABASE": "cr m=x"}
    how = f"--{form}" if "insert" in form else f"--format={form}"
    argv = ["pg_dump", how, "-h", "127.0.0.1", "-p", str(server.port), "-U", "admin"]
    found = subprocess.run(argv, env=env, capture_output=True, check=True).stdout
    server.run("ALTER TABLE public.orders OWNER TO owner", "cr m=x")
    return found


@pytest.mark.parametrize("form", ["plain", "tar", "custom", "inserts", "rows-per-insert=100"])
async def test_dumps_of_every_form_are_restored(
    server: PostgresqlServer, target: PostgresqlTarget, form: str
) -> None:
    before = checksum(server)
    content = dumped(server, form)
    assert form != "plain" or (b"OWNER TO admin" in content and b"GRANT SELECT" in content)
    server.run("UPDATE crm.customer SET name = 'gone'; DROP TABLE public.orders", "cr m=x", "owner", "owner-pw")
    context = Context()
    await component(target).restore(from_bytes(content), context.context, len(content))
    assert checksum(server) == before


async def test_a_plain_dump_without_its_end_changes_nothing(
    server: PostgresqlServer, target: PostgresqlTarget
) -> None:
    before = checksum(server)
    content = dumped(server, "plain")
    end = content.rindex(b"-- PostgreSQL database dump complete")
    lines = content[:end].splitlines(keepends=True)
    cuts = [b"", *(b"".join(lines[: len(lines) * part // 8]) for part in range(1, 9))]
    for cut in [
        *cuts,
        content + b"DROP TABLE crm.customer;\n",
        content[:end] + b"\\\\! touch /tmp/x\n" + content[end:],
    ]:
        with pytest.raises(LoadFailed):
            await component(target).restore(from_bytes(cut), Context().context, len(cut))
    assert checksum(server) == before
