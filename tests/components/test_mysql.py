"""MySQL and MariaDB: everything comes back, or nothing changes; with an administrator and without."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.deployments.standalone import StandaloneDeployment
from app.errors import (
    ArchiveDamaged,
    ConsentRequired,
    DatabaseAccessDenied,
    DatabaseNotFound,
    DatabaseUnreachable,
    LiberuError,
    LoadFailed,
    OperationCancelled,
    OwnershipLost,
)
from demo.ports import free_port
from demo.servers import MariadbServer, mariadb_server
from tests.components.helpers import Context, MemorySafety, codes, collect
from tests.components.test_mysql_script import PHPMYADMIN, POSTS

PASSWORD = "o'w\"n\\er # pw;é"
SAMPLE = r"""
CREATE TABLE customer (id int PRIMARY KEY AUTO_INCREMENT, n int DEFAULT 4, name varchar(200) CHARACTER SET utf8mb4,
  photo mediumblob,
  twice int AS (n * 2) STORED);
INSERT INTO customer (name, photo) VALUES ('Zoë 😀', 0x00ff5c0a27), ('it''s \\ ; -- \n DELIMITER ;;', NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int, CONSTRAINT c FOREIGN KEY (customer) REFERENCES customer (id));
INSERT INTO orders SELECT seq, 1 + seq % 2 FROM seq_1_to_2000;
CREATE TABLE `log``ged -- x` (what text);
CREATE SEQUENCE ticket START 100;
CREATE VIEW z_names AS SELECT name FROM customer;
CREATE VIEW a_names AS SELECT name FROM z_names;
DELIMITER //
CREATE TRIGGER logs AFTER INSERT ON orders FOR EACH ROW BEGIN
  INSERT INTO `log``ged -- x` VALUES (CONCAT('order ', NEW.id, ' -- Dump completed'));
END//
CREATE FUNCTION twice(a int) RETURNS int DETERMINISTIC RETURN a * 2//
CREATE PROCEDURE hello() BEGIN
  -- a comment; with 'quotes
  SELECT 'ünïcode \! id';
END//
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM orders WHERE id < 0//
DELIMITER ;
"""
SUM = """
CHECKSUM TABLE customer, orders, `log``ged -- x`;
SELECT name, HEX(photo), twice FROM customer; SELECT COUNT(*) FROM a_names; SELECT twice(21); CALL hello();
SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE();
SELECT event_name, definer FROM information_schema.events WHERE event_schema = DATABASE();
SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1;
"""
OUR_THINGS = """
SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'liberu%';
SELECT user FROM mysql.user WHERE user LIKE 'liberu%'; SELECT db FROM mysql.db WHERE db LIKE 'liberu%';
"""


class Site:
    def __init__(self, server: MariadbServer, target: MysqlTarget) -> None:
        self.server = server
        self.target = target

    def component(self, *, admin: bool = True, **changes: object) -> MysqlComponent:
        target = replace(self.target, **changes)  # type: ignore[arg-type]
        return MysqlComponent(StandaloneDeployment(), target if admin else replace(target, admin=None))

    def sum(self) -> str:
        return self.server.run(SUM, self.target.name, "owner", PASSWORD)

    def run(self, sql: str) -> str:
        return self.server.run(sql, self.target.name)

    def as_owner(self, sql: str) -> str:
        return self.server.run(sql, self.target.name, "owner", PASSWORD)

    def leftovers(self) -> str:
        return self.server.run(OUR_THINGS)


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as started:
        yield started


@pytest.fixture
def site(server: MariadbServer) -> Iterator[Site]:
    name = "-sh op." + secrets.token_hex(4)
    server.run(f"CREATE DATABASE `{name}`; CREATE USER owner@'127.0.0.1' IDENTIFIED BY '{_quoted(PASSWORD)}';")
    server.run(f"GRANT ALL ON `{name}`.* TO owner@'127.0.0.1'")
    target = MysqlTarget(
        name, Account("owner", PASSWORD), Account("admin", server.admin_password), "127.0.0.1", server.port
    )
    made = Site(server, target)
    made.as_owner(SAMPLE)
    yield made
    server.run(f"DROP DATABASE `{name}`; DROP USER owner@'127.0.0.1'")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


DAMAGE = (
    "UPDATE customer SET name = 'damaged'; DROP TABLE orders; DROP FUNCTION twice; DROP VIEW a_names;"
    "CREATE TABLE newer (c int, FOREIGN KEY (c) REFERENCES customer (id)); CREATE VIEW v AS SELECT 1;"
    "CREATE TRIGGER t BEFORE INSERT ON customer FOR EACH ROW SET NEW.name = 'x'; CREATE PROCEDURE p() SELECT 1;"
)


@pytest.mark.parametrize("admin", [True, False])
async def test_everything_comes_back(site: Site, admin: bool) -> None:
    before = site.sum()
    component = site.component(admin=admin)
    archive = await collect(await component.dump())
    site.as_owner(DAMAGE)
    context = Context(safety=MemorySafety(component.dump))
    report = await component.restore(from_bytes(archive), context.context, len(archive))
    assert site.sum() == before
    assert report.facts["tables"] == 4
    assert site.as_owner("INSERT INTO orders VALUES (9999, 1); SELECT * FROM `log``ged -- x`").startswith(
        "order 9999"
    )
    assert site.leftovers() == ""
    assert context.safety.content is None


@pytest.mark.parametrize("admin", [True, False])
async def test_a_damaged_archive_changes_nothing(site: Site, admin: bool) -> None:
    component = site.component(admin=admin)
    archive = await collect(await component.dump())
    site.as_owner(DAMAGE)
    before = site.server.run(
        "SHOW TABLES; SELECT name FROM customer; SELECT trigger_name FROM information_schema.triggers",
        site.target.name,
    )

    async def damaged() -> ByteStream:
        yield archive[: len(archive) // 2]
        raise ArchiveDamaged("the hash differs")

    with pytest.raises(LiberuError):
        await component.restore(damaged(), Context(safety=MemorySafety(component.dump)).context, len(archive))
    assert (
        site.server.run(
            "SHOW TABLES; SELECT name FROM customer; SELECT trigger_name FROM information_schema.triggers",
            site.target.name,
        )
        == before
    )
    assert site.leftovers() == ""


async def test_a_dump_cut_at_any_line_changes_nothing(site: Site) -> None:
    component = site.component()
    archive = await collect(await component.dump())
    lines = archive.splitlines(keepends=True)
    before = site.sum()
    for cut in range(0, len(lines) - 1, len(lines) // 12):
        part = b"".join(lines[:cut])
        with pytest.raises(LoadFailed, match="as it was"):
            await component.restore(from_bytes(part), Context().context, len(part))
        assert site.sum() == before
    assert site.leftovers() == ""


async def test_an_invalid_view_is_a_warning_that_keeps_its_definition(site: Site) -> None:
    site.as_owner("CREATE TABLE gone (z int); CREATE VIEW broken AS SELECT z FROM gone; DROP TABLE gone")
    component = site.component()
    dump = await component.dump()
    archive = await collect(dump)
    [warning] = dump.report.warnings
    assert (warning.code, warning.subject) == ("view_invalid", "broken")
    assert "`z` from" in warning.message
    assert dump.report.incomplete == []
    await component.restore(from_bytes(archive), Context().context, len(archive))
    assert "a_names" in site.as_owner("SHOW TABLES")


async def test_a_routine_of_another_definer_is_named_or_read_by_the_administrator(site: Site) -> None:
    site.run("CREATE PROCEDURE theirs() SELECT 'theirs'")
    dump = await site.component(admin=False).dump()
    await collect(dump)
    assert [(lack.code, lack.subject) for lack in dump.report.incomplete] == [("routine_hidden", "PROCEDURE theirs")]
    component = site.component()
    dump = await component.dump()
    archive = await collect(dump)
    assert codes(dump.report) == []
    site.run("DROP PROCEDURE theirs")
    await component.restore(from_bytes(archive), Context().context, len(archive))
    assert site.as_owner("CALL theirs()") == "theirs"


async def test_without_a_whole_safety_copy_consent_is_needed(site: Site) -> None:
    component = site.component(admin=False)
    archive = await collect(await component.dump())
    site.run("CREATE PROCEDURE theirs() SELECT 'theirs'")
    before = site.sum()
    with pytest.raises(ConsentRequired, match="safety copy"):
        await component.restore(from_bytes(archive), Context(safety=MemorySafety(component.dump)).context, 1)
    assert site.sum() == before
    agreed = Context(safety=MemorySafety(component.dump), unsafe=True)
    await component.restore(from_bytes(archive), agreed.context, 1)
    assert site.sum() == before


@pytest.mark.parametrize("error", [OwnershipLost("lost"), OperationCancelled("cancelled")])
async def test_nothing_changes_when_the_operation_is_lost_before_the_swap(site: Site, error: Exception) -> None:
    component = site.component()
    archive = await collect(await component.dump())
    site.as_owner("UPDATE customer SET name = 'newer'")
    before = site.sum()
    context = Context()
    context.fail = error
    with pytest.raises(type(error)):
        await component.restore(from_bytes(archive), context.context, len(archive))
    assert site.sum() == before
    context.fail = None  # the one who goes on removes what was made
    await component.settle(context.context)
    assert site.sum() == before
    assert site.leftovers() == ""


async def test_what_cannot_be_created_after_the_swap_is_rolled_back(site: Site) -> None:
    component = site.component()
    archive = await collect(await component.dump())
    site.as_owner("UPDATE customer SET name = 'newer'; CREATE PROCEDURE newer() SELECT 2")
    before = site.sum()
    bad = archive.replace(b"EVENT `nightly` ON SCHEDULE", b"EVENT `nightly` IN SCHEDULE")
    assert bad != archive
    with pytest.raises(LoadFailed, match="the live database is as it was"):
        await component.restore(from_bytes(bad), Context().context, len(bad))
    assert site.sum() == before
    assert site.as_owner("CALL newer()") == "2"
    assert site.leftovers() == ""


async def test_a_hostile_script_reaches_nothing_else(site: Site, tmp_path: Path) -> None:
    component = site.component()
    archive = await collect(await component.dump())
    before = site.sum()
    marker = tmp_path / "pwned"
    for line in (
        f"\\! touch {marker}\n", f"system touch {marker}\n", f"source {marker}\n", "USE mysql;\n",
        f"DROP TABLE `{site.target.name}`.orders;\n", "CREATE DATABASE evil;\n",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE customer;\n", f"tee {marker}\n",
    ):  # fmt: skip
        hostile = archive.replace(b"CREATE TABLE `customer`", line.encode() + b"CREATE TABLE `customer`", 1)
        with pytest.raises(LoadFailed):
            await component.restore(from_bytes(hostile), Context().context, 1)
        assert not marker.exists()
        assert site.sum() == before
    assert site.leftovers() == ""


async def test_a_tenants_option_file_is_not_read(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".my.cnf").write_text(f"[client]\nuser=x\n[mariadb-dump]\nresult-file={tmp_path}/stolen\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MYSQL_HOME", str(tmp_path))
    assert b"-- Dump completed" in await collect(await site.component().dump())
    assert not (tmp_path / "stolen").exists()


async def test_errors_are_typed(site: Site) -> None:
    cases = {
        DatabaseAccessDenied: site.component(admin=False, owner=Account("owner", "wrong")),
        DatabaseNotFound: site.component(name="nothing"),
        DatabaseUnreachable: site.component(port=free_port()),
    }
    for expected, component in cases.items():
        with pytest.raises(expected):
            await component.dump()


async def test_an_administrator_is_refused_as_the_owner(site: Site) -> None:
    component = site.component(owner=Account("admin", site.server.admin_password))
    with pytest.raises(DatabaseAccessDenied, match="administrator"):
        await component.preflight(Context().context, 0)


async def test_a_foreign_key_from_another_database_is_refused_before_anything_changes(site: Site) -> None:
    name = site.target.name
    site.server.run(
        f"CREATE DATABASE other; CREATE TABLE other.t (c int, FOREIGN KEY (c) REFERENCES `{name}`.customer (id))"
    )
    try:
        with pytest.raises(LoadFailed, match=r"other\.t has a foreign key"):
            await site.component().preflight(Context().context, 0)
    finally:
        site.server.run("DROP DATABASE other")


async def test_an_empty_database(site: Site) -> None:
    component = site.component()
    site.as_owner("DROP EVENT nightly; DROP PROCEDURE hello; DROP FUNCTION twice; DROP VIEW a_names, z_names;")
    site.as_owner("DROP TABLE orders, customer, `log``ged -- x`; DROP SEQUENCE ticket")
    archive = await collect(await component.dump())
    site.as_owner("CREATE TABLE x (a int)")
    await component.restore(from_bytes(archive), Context().context, len(archive))
    assert site.as_owner("SHOW TABLES") == ""


@pytest.mark.parametrize("admin", [True, False])
async def test_foreign_dumps_load_and_say_what_was_odd(site: Site, admin: bool) -> None:
    """phpMyAdmin's, and mysqldump's of a whole server's settings: where another program made the archive, and only
    there, the end marker may be absent."""
    mysqldump = (
        b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `u_shop`;\r\nUSE `u_shop`;\r\n"
        b"SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;\r\nSET @@SESSION.SQL_LOG_BIN= 0;\r\n"
        b"SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5';\r\n"
        b"CREATE TABLE posts (id int, body text COLLATE utf8mb4_0900_ai_ci);\r\n"
        b"INSERT INTO posts VALUES (1,'caf\xc3\xa9\0 \\r\\n'),(3,'x\r\ny');\r\n"
        b"DELIMITER //\r\nCREATE DEFINER=root@localhost FUNCTION f() RETURNS int RETURN 41 //\r\nDELIMITER ;\r\n"
    )
    component = site.component(admin=admin)
    own = await collect(await component.dump())
    for content, expected in (
        (PHPMYADMIN, {"no_end_marker"}), (mysqldump, {"no_end_marker", "left_out"}),
        (own[: own.rindex(b"-- Dump completed")], {"no_end_marker"}),
    ):  # fmt: skip
        context = Context(safety=MemorySafety(component.dump)).context
        with pytest.raises(LoadFailed, match="end marker"):
            await component.restore(from_bytes(content), context, len(content))
        context = Context(safety=MemorySafety(component.dump)).context
        report = await component.restore(from_bytes(content), replace(context, foreign=True), len(content))
        told = set(codes(report)) - (set() if admin else {"grants_unknown"})  # of the routine that was live before
        assert told == expected
        if content == PHPMYADMIN:
            found = site.as_owner(
                "SELECT id, MD5(body) FROM posts ORDER BY id; CALL p(); SELECT f(); SELECT id FROM v"
            )
            sums = [word for id, body in POSTS for word in (str(id), md5(body.encode()).hexdigest())]
            assert found.split() == [*sums, "4", "NULL", "a;b", "41", "1"]
            assert site.as_owner("INSERT INTO posts VALUES (9, 'y'); SELECT body FROM posts WHERE id = 9") == "x"
            assert site.as_owner("SHOW EVENTS").split("\t")[1:3] == ["e", "owner@127.0.0.1"]
        elif content == mysqldump:
            found = site.as_owner("SELECT HEX(body) FROM posts; SELECT f()")
            assert found.split() == ["636166C3A900200D0A", "780D0A79", "41"]
    assert site.as_owner("SELECT COUNT(*) FROM orders") == "2000"


async def test_an_error_shows_no_data(site: Site) -> None:
    script = b"CREATE TABLE `t` (a int PRIMARY KEY, b text);\nINSERT INTO `t` VALUES (1,'secret'),(1,'secret');\n"
    with pytest.raises(LoadFailed, match=r"ERROR 1062 .*INSERT INTO `t`\); the live database is as it was") as caught:
        await site.component().restore(from_bytes(script), replace(Context().context, foreign=True), 1)
    assert "secret" not in caught.value.message
