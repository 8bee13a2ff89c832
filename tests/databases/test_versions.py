"""The newest servers with their own programs: what was backed up comes back, and from an older server to a newer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from app.archives.streams import from_bytes as as_archive
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import LoadFailed
from demo import versions
from demo.servers import (
    MariadbServer,
    PostgresqlServer,
    mariadb_server,
    mysql_server,
    postgresql_server,
)
from tests.components.helpers import Context, MemorySafety, collect

PASSWORD = "owner-pw"
MYSQL = """
CREATE TABLE customer (id int PRIMARY KEY AUTO_INCREMENT, name varchar(200) NOT NULL, photo mediumblob,
  letters int AS (CHAR_LENGTH(name)) STORED, at timestamp(6) NULL, data json, KEY (name),
  CHECK (CHAR_LENGTH(name) > 1));
INSERT INTO customer (name, photo, at, data)
  WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900)
  SELECT CONCAT('Zoë 😀 it''s \\\\ ', n), UNHEX(SHA2(n, 512)), '2026-01-02 03:04:05.678901', '{"a": [1, null]}'
  FROM n;
CREATE TABLE orders (id int PRIMARY KEY, customer int, note text, FOREIGN KEY (customer) REFERENCES customer (id));
INSERT INTO orders SELECT id, id, CONCAT('line\\nbreak;-- ', id) FROM customer;
CREATE TABLE log (what text);
CREATE VIEW names AS SELECT name FROM customer;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW INSERT INTO log VALUES (NEW.note);
CREATE FUNCTION twice(a int) RETURNS int DETERMINISTIC RETURN a * 2;
CREATE PROCEDURE hello() SELECT 'ünïcode';
"""
MYSQL_SUM = """
SET group_concat_max_len = 1000000;
SELECT SHA2(GROUP_CONCAT(SHA2(CONCAT_WS('|', id, name, HEX(photo), letters, at, data), 256) ORDER BY id), 256)
  FROM customer;
SELECT SHA2(GROUP_CONCAT(SHA2(CONCAT_WS('|', id, customer, note), 256) ORDER BY id), 256) FROM orders;
SELECT COUNT(*) FROM log;
SELECT COUNT(*), MAX(name) FROM names; SELECT twice(21); CALL hello();
SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = DATABASE();
SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1;
"""
MYSQL_DAMAGE = "DROP TRIGGER noted; DROP TABLE orders; UPDATE customer SET name = 'xx'; DROP FUNCTION twice"
POSTGRESQL = r"""
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, photo bytea, mood mood);
INSERT INTO customer (name, photo, mood)
  SELECT 'Zoë 😀 it''s \ ' || g, decode(md5(g::text), 'hex'), 'glad' FROM generate_series(1, 900) g;
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer, note text);
INSERT INTO orders SELECT g, g, E'line\nbreak\t\\.' || g FROM generate_series(1, 900) g;
CREATE VIEW names AS SELECT name FROM customer;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.name := new.name || '!'; RETURN new; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();
"""
POSTGRESQL_SUM = """
SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM customer c;
SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o;
SELECT count(*) FROM names; SELECT tgname FROM pg_trigger WHERE NOT tgisinternal;
"""
POSTGRESQL_DAMAGE = "DROP TABLE orders; DELETE FROM customer; CREATE TABLE newer (id int REFERENCES customer)"

Started = Callable[[], AbstractContextManager[MariadbServer]]
MYSQL_SERVERS: dict[str, tuple[Started, str]] = {
    **{
        f"MariaDB {name}": (partial(mariadb_server, root), f"{root}/usr/bin:")
        for name, root in versions.mariadb().items()
    },
    **{f"MySQL {name}": (partial(mysql_server, root), f"{root}/usr/bin:") for name, root in versions.mysql().items()},
}


class Mysql:
    def __init__(self, server: MariadbServer, search_path: str) -> None:
        self.server = server
        self._search_path = search_path
        server.run(
            f"CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER owner@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"
        )
        server.run("GRANT ALL ON shop.* TO owner@'127.0.0.1'")

    def run(self, sql: str) -> str:
        return self.server.run(sql, "shop", "owner", PASSWORD)

    def component(self, *, admin: bool) -> MysqlComponent:
        administrator = Account("admin", self.server.admin_password) if admin else None
        target = MysqlTarget("shop", Account("owner", PASSWORD), administrator, "127.0.0.1", self.server.port)
        return MysqlComponent(StandaloneDeployment(self._search_path), target)


@pytest.fixture(scope="module", params=sorted(MYSQL_SERVERS))
def mysql(request: pytest.FixtureRequest) -> Iterator[Mysql]:
    start, path = MYSQL_SERVERS[request.param]
    with start() as server:
        made = Mysql(server, path + SEARCH_PATH)
        made.run(MYSQL)
        yield made


@pytest.mark.parametrize("admin", [True, False])
async def test_a_newer_mysql_database_comes_back(mysql: Mysql, admin: bool) -> None:
    before = mysql.run(MYSQL_SUM)
    component = mysql.component(admin=admin)
    archive = await collect(await component.dump())
    mysql.run(MYSQL_DAMAGE)
    context = Context(safety=MemorySafety(component.dump))
    await component.restore(as_archive(archive), context.context, len(archive))
    assert mysql.run(MYSQL_SUM) == before


async def test_from_this_systems_mariadb_to_a_newer(mysql: Mysql) -> None:
    with mariadb_server() as server:
        older = Mysql(server, SEARCH_PATH)
        older.run(MYSQL)
        before = older.run(MYSQL_SUM)
        dump = await older.component(admin=False).dump()
        archive = await collect(dump)
    component, context = mysql.component(admin=True), Context(facts=dump.report.facts).context
    if "MariaDB" in mysql.run("SELECT VERSION()"):
        await component.restore(as_archive(archive), context, len(archive))
        assert mysql.run(MYSQL_SUM) == before
    else:
        with pytest.raises(LoadFailed, match="generated columns, whose values MySQL does not take"):
            await component.preflight(context, len(archive))


class Postgresql:
    def __init__(self, server: PostgresqlServer, search_path: str) -> None:
        self.server = server
        self._search_path = search_path
        server.run(f"CREATE ROLE owner LOGIN PASSWORD '{PASSWORD}'")
        server.run("CREATE DATABASE shop OWNER owner")
        server.run("ALTER SCHEMA public OWNER TO owner", "shop")

    def run(self, sql: str) -> str:
        return self.server.run(sql, "shop", "owner", PASSWORD)

    def component(self) -> PostgresqlComponent:
        target = PostgresqlTarget("shop", "owner", PASSWORD, "127.0.0.1", self.server.port)
        return PostgresqlComponent(StandaloneDeployment(self._search_path), target)


@pytest.fixture(scope="module", params=sorted(versions.postgresql()))
def postgresql(request: pytest.FixtureRequest) -> Iterator[Postgresql]:
    binaries: Path = versions.postgresql()[request.param]
    with postgresql_server(binaries) as server:
        made = Postgresql(server, f"{binaries}:{SEARCH_PATH}")
        made.run(POSTGRESQL)
        yield made


async def test_a_newer_postgresql_database_comes_back(postgresql: Postgresql) -> None:
    before = postgresql.run(POSTGRESQL_SUM)
    component = postgresql.component()
    archive = await collect(await component.dump())
    postgresql.run(POSTGRESQL_DAMAGE)
    await component.restore(as_archive(archive), Context().context, len(archive))
    assert postgresql.run(POSTGRESQL_SUM) == before


async def test_from_this_systems_postgresql_to_a_newer(postgresql: Postgresql) -> None:
    with postgresql_server() as server:
        older = Postgresql(server, SEARCH_PATH)
        older.run(POSTGRESQL)
        before = older.run(POSTGRESQL_SUM)
        archive = await collect(await older.component().dump())
    await postgresql.component().restore(as_archive(archive), Context().context, len(archive))
    assert postgresql.run(POSTGRESQL_SUM) == before
