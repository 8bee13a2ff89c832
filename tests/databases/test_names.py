"""A database is loaded under another name than it was dumped under; what of it names the former one is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.archives.streams import from_bytes
from app.components.base import Report
from app.components.creation import Missing, NewDatabase
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.mysql_creation import NewMysql
from app.components.mysql_statements import names_database
from app.components.postgresql import PostgresqlTarget
from app.components.postgresql_creation import NewPostgresql
from app.deployments.standalone import StandaloneDeployment
from app.errors import ComponentError, LoadFailed
from demo.servers import MariadbServer, PostgresqlServer
from tests.components.helpers import Context, MemorySafety, collect
from tests.database_servers import mariadb, postgresql

__all__ = ["mariadb", "postgresql"]

PASSWORD = "owner-pw"
SAMPLE = """
CREATE TABLE orders (id int PRIMARY KEY, shop varchar(50)); INSERT INTO orders VALUES (1, 'shop.example.com');
CREATE TABLE log (what text);
CREATE VIEW own AS SELECT shop.shop FROM orders AS shop;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW INSERT INTO shop.log VALUES (NEW.shop);
CREATE TRIGGER quiet BEFORE INSERT ON orders FOR EACH ROW SET NEW.shop = 'shop.orders'; -- shop.orders
CREATE PROCEDURE tidy() DELETE FROM `shop` . `log`;
CREATE EVENT emptied ON SCHEDULE EVERY 1 SECOND DO DELETE FROM shop.orders;
CREATE EVENT here ON SCHEDULE EVERY 1 DAY DO DELETE FROM log WHERE what = 'shop.log';
"""


@pytest.fixture
def server(mariadb: MariadbServer) -> Iterator[MariadbServer]:
    """One account may do all in both: what acts elsewhere by mistake would be able to."""
    mariadb.run(f"CREATE USER owner@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    for name in ("shop", "staging"):
        mariadb.run(f"CREATE DATABASE {name}; GRANT ALL ON {name}.* TO owner@'127.0.0.1'")
    mariadb.run(SAMPLE, "shop", "owner", PASSWORD)
    yield mariadb
    mariadb.run(
        "SET GLOBAL event_scheduler = OFF; DROP DATABASE shop; DROP DATABASE staging; DROP USER owner@'127.0.0.1'"
    )


def _component(server: MariadbServer, name: str, *, admin: bool) -> MysqlComponent:
    administrator = Account("admin", server.admin_password) if admin else None
    target = MysqlTarget(name, Account("owner", PASSWORD), administrator, "127.0.0.1", server.port)
    return MysqlComponent(StandaloneDeployment(), target)


@pytest.mark.parametrize("admin", [True, False])
async def test_what_would_act_in_the_live_database_is_told(server: MariadbServer, admin: bool) -> None:
    archive = await collect(await _component(server, "shop", admin=admin).dump())
    staging = _component(server, "staging", admin=admin)
    context = Context(safety=MemorySafety(staging.dump))
    server.run("SET GLOBAL event_scheduler = ON")
    report = await staging.restore(from_bytes(archive), context.context, len(archive))
    told = {(warning.code, warning.subject) for warning in report.warnings}
    expected = {("names_other_database", label) for label in ("VIEW own", "TRIGGER noted", "PROCEDURE tidy")}
    assert told - expected == {("event_left_out", "EVENT emptied")}
    assert told >= expected - {("names_other_database", "VIEW own")}
    assert server.run("SHOW EVENTS", "staging").split("\t")[1] == "here"
    assert server.run("SELECT shop FROM own", "staging") == "shop.example.com"
    assert server.run("SELECT COUNT(*) FROM shop.orders") in ("0", "1")  # its own event may have run


async def test_nothing_is_told_where_the_name_is_the_same(server: MariadbServer) -> None:
    component = _component(server, "shop", admin=True)
    archive = await collect(await component.dump())
    report = await component.restore(from_bytes(archive), Context().context, len(archive))
    assert report.warnings == []
    assert sorted(line.split("\t")[1] for line in server.run("SHOW EVENTS", "shop").splitlines()) == [
        "emptied",
        "here",
    ]


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (b"INSERT INTO shop.log VALUES (1)", True),
        (b"select `shop`.`log`.`a` from `shop`.`log`", True),
        (b'select "shop" . "log"', True),
        (b"/*!50003 CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW DELETE FROM shop . log */", True),
        (b"SELECT 'shop.log', myshop.log, x.shop.log, `a shop`.b /* shop.log */ -- shop.log\n", False),
        (b"SET @shop.a = 1; SELECT shop_2.a", False),
        (b"SELECT 'it''s \\' shop.log'", False),
    ],
)
def test_what_names_a_database(sql: bytes, named: bool) -> None:
    assert names_database(sql, {b"shop"}) is named


def _new_mysql(server: MariadbServer, name: str, admin: str = "admin", password: str | None = None) -> NewMysql:
    administrator = Account(admin, password or server.admin_password)
    target = MysqlTarget(name, Account(f"{name}-owner", "it's \\ a \" pw"), administrator, "127.0.0.1", server.port)
    return NewMysql(StandaloneDeployment(), target, None)


def _new_postgresql(server: PostgresqlServer, name: str, admin: str = "admin", password: str = "") -> NewPostgresql:
    target = PostgresqlTarget(name, f"{name}-owner", "it's \\ a \" pw", "127.0.0.1", server.port)
    return NewPostgresql(StandaloneDeployment(), target, (admin, password or server.admin_password))


@pytest.fixture(params=["mariadb", "postgresql"])
def new(request: pytest.FixtureRequest) -> NewDatabase:
    if request.param == "mariadb":
        return _new_mysql(request.getfixturevalue("mariadb"), "o`dd_\"n'%")
    return _new_postgresql(request.getfixturevalue("postgresql"), "o`dd_\"n'%")


async def test_what_was_made_goes_again_and_nothing_else(new: NewDatabase) -> None:
    missing = await new.missing()
    assert (missing.database, missing.account) == (True, True)
    await new.make({}, Report())
    now = await new.missing()
    assert (now.database, now.account) == (False, False)
    await new.make({}, Report())  # an attempt that was cut short goes on
    await new.remove(Missing(False, False, missing.host), surely_ours=True)
    assert (await new.missing()).noted == now.noted
    await new.remove(missing, surely_ours=False)
    await new.remove(missing, surely_ours=False)
    assert await new.missing() == missing


async def test_a_database_that_came_meanwhile_is_left_alone(
    mariadb: MariadbServer, postgresql: PostgresqlServer
) -> None:
    """Between the look and the making; whose it is only its content, or its owner, tells."""
    mariadb.run("CREATE DATABASE theirs; CREATE TABLE theirs.t (a int)")
    postgresql.run("CREATE DATABASE theirs")
    all_missing = Missing(True, True, "%")
    for new in (_new_mysql(mariadb, "theirs"), _new_postgresql(postgresql, "theirs")):
        with pytest.raises(LoadFailed, match="Somebody else has made"):
            await new.make({}, Report())
        with pytest.raises(LoadFailed, match="There is a database theirs"):
            await new.remove(all_missing, surely_ours=False)
    assert mariadb.run("SHOW TABLES FROM theirs") == "t"
    assert postgresql.run("SELECT 1", "theirs") == "1"
    mariadb.run("DROP DATABASE theirs")
    postgresql.run('DROP DATABASE theirs; DROP ROLE IF EXISTS "theirs-owner"')


async def test_the_account_reaches_its_database_alone(mariadb: MariadbServer, postgresql: PostgresqlServer) -> None:
    mariadb.run("CREATE DATABASE newXdb; CREATE TABLE newXdb.t (a int)")  # what new_db stands for in a GRANT
    mysql, postgres = _new_mysql(mariadb, "new_db"), _new_postgresql(postgresql, "new_db")
    for new in (mysql, postgres):
        await new.make({"charset": "latin1", "collation": "latin1_swedish_ci"}, Report())
    owner = ("new_db-owner", "it's \\ a \" pw")
    mariadb.run("CREATE TABLE t (a int)", "new_db", *owner)
    assert mariadb.run("SELECT @@collation_database", "new_db", *owner) == "latin1_swedish_ci"
    with pytest.raises(AssertionError, match="denied"):
        mariadb.run("SELECT * FROM t", "newXdb", *owner)
    postgresql.run("CREATE TABLE t (a int)", "new_db", *owner)
    postgresql.run("CREATE ROLE stranger LOGIN PASSWORD 'pw'")
    with pytest.raises(AssertionError, match="permission denied"):
        postgresql.run("SELECT 1", "new_db", "stranger", "pw")
    for new in (mysql, postgres):
        await new.remove(Missing(True, True, "%"), surely_ours=True)
    postgresql.run("DROP ROLE stranger")


async def test_an_administrator_of_postgresql_need_not_be_a_superuser(postgresql: PostgresqlServer) -> None:
    postgresql.run("CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'manager-pw'")
    new = _new_postgresql(postgresql, "managed", "manager", "manager-pw")
    characters = {"encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8"}
    await new.make(characters, Report())
    sql = "SELECT pg_get_userbyid(datdba), datcollate FROM pg_database WHERE datname = 'managed'"
    assert postgresql.run(sql) == "managed-owner|C.UTF-8"
    assert postgresql.run("SELECT count(*) FROM pg_auth_members WHERE member = 'manager'::regrole") in ("0", "1")
    await new.remove(Missing(True, True), surely_ours=True)
    assert await new.missing() == Missing(True, True)
    postgresql.run("DROP ROLE manager")


async def test_a_locale_that_the_server_does_not_have_is_told(postgresql: PostgresqlServer) -> None:
    new, report = _new_postgresql(postgresql, "abroad"), Report()
    await new.make({"encoding": "UTF8", "collate": "xx_XX.utf8", "ctype": "xx_XX.utf8"}, report)
    assert [warning.code for warning in report.warnings] == ["collation_unknown"]
    await new.remove(Missing(True, True), surely_ours=True)


async def test_no_password_is_in_a_log_of_the_server(mariadb: MariadbServer, postgresql: PostgresqlServer) -> None:
    mariadb.run("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON")
    postgresql.run("ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()")
    mysql, postgres = _new_mysql(mariadb, "logged"), _new_postgresql(postgresql, "logged")
    for new in (mysql, postgres):
        await new.make({}, Report())
    log = mariadb.run("SELECT argument FROM mysql.general_log")
    assert "CREATE USER" in log
    assert "pw" not in log.replace("admin-pw", "")
    mariadb.run("SET GLOBAL general_log = OFF")
    kept = postgresql.run("SELECT rolpassword FROM pg_authid WHERE rolname = 'logged-owner'")
    assert kept.startswith("SCRAM-SHA-256$4096:")  # as it was sent: the statement holds no more
    for new in (mysql, postgres):
        await new.remove(Missing(True, True, "%"), surely_ours=True)


async def test_an_administrator_that_may_not_is_told_so(mariadb: MariadbServer, postgresql: PostgresqlServer) -> None:
    mariadb.run(f"CREATE USER small@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON mysql.* TO small@'%'")
    postgresql.run(f"CREATE ROLE small LOGIN PASSWORD '{PASSWORD}'")
    small: list[NewDatabase] = [
        _new_mysql(mariadb, "never", "small", PASSWORD),
        _new_postgresql(postgresql, "never", "small", PASSWORD),
    ]
    for new in small:
        missing = await new.missing()
        with pytest.raises(ComponentError, match=r"denied"):
            await new.make({}, Report())
        await new.remove(missing, surely_ours=False)
    mariadb.run("DROP USER small@'%'")
    postgresql.run("DROP ROLE small")
