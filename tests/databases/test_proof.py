"""A backup whose dump cannot be loaded, or lacks something, is never completed; what proves it leaves nothing."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from app.archives.streams import from_bytes
from app.components.base import Component
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.mysql_contents import DumpContents
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.db.models import Operation
from app.db.repositories.proofs import ProofTurnRepository
from app.db.session import Database
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import ProofImpossible
from demo.servers import MariadbServer, PostgresqlServer, mariadb_server, postgresql_server
from demo.service import Service
from tests.components.helpers import Context, codes, collect

PASSWORD = "owner-pw"


class Place:
    """A database server, with a database `shop` of the tenant `shop`."""

    engine: str
    server: MariadbServer | PostgresqlServer

    def begin(self) -> None:
        """The database is empty."""
        raise NotImplementedError

    def left(self) -> str:
        """What is there of any proof."""
        raise NotImplementedError

    def held(self) -> AbstractContextManager[None]:
        """No database can be made there meanwhile."""
        raise NotImplementedError

    def component(self, path: str = SEARCH_PATH, *, admin: bool = True) -> Component:
        raise NotImplementedError

    def owner(self, sql: str) -> str:
        return self.server.run(sql, "shop", "shop", PASSWORD)

    def domain(
        self,
        service: Service,
        *,
        admin: bool = True,
        name: str = "db.example.com",
        host: str = "127.0.0.1",
        **more: Any,
    ) -> dict[str, Any]:
        account = {"admin_username": "admin", "admin_password": self.server.admin_password} if admin else {}
        database = {
            "engine": self.engine, "name": "shop", "username": "shop", "password": PASSWORD, "host": host,
            "port": self.server.port, **account,
        }  # fmt: skip
        body = {"domain_name": name, "databases": [database], **more}
        made: dict[str, Any] = service.call("PUT", f"/api/domains/by-name/{name}", json=body)
        return made


class Mariadb(Place):
    engine = "mariadb"

    def __init__(self, server: MariadbServer) -> None:
        self.server = server
        server.run(f"CREATE USER shop@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        server.run("GRANT ALL ON shop.* TO shop@'127.0.0.1'")

    def begin(self) -> None:
        self.server.run("DROP DATABASE IF EXISTS shop; CREATE DATABASE shop CHARACTER SET utf8mb4")

    def left(self) -> str:
        return self.server.run(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'liberu%' UNION ALL "
            "SELECT user FROM mysql.user WHERE user LIKE 'liberu%' UNION ALL "
            "SELECT db FROM mysql.db WHERE db LIKE 'liberu%'"
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        argv = ["mariadb", "-uadmin", "-h127.0.0.1", f"-P{self.server.port}", "-N", "-B", "-n"]
        env = {"PATH": SEARCH_PATH, "MYSQL_PWD": self.server.admin_password}
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as client:
            assert client.stdin and client.stdout
            client.stdin.write(b"FLUSH TABLES WITH READ LOCK; SELECT 'held';\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"held\n"
            yield
            client.stdin.close()

    def component(self, path: str = SEARCH_PATH, *, admin: bool = True) -> MysqlComponent:
        administrator = Account("admin", self.server.admin_password) if admin else None
        target = MysqlTarget("shop", Account("shop", PASSWORD), administrator, "127.0.0.1", self.server.port)
        return MysqlComponent(StandaloneDeployment(path), target)


class Postgresql(Place):
    engine = "postgresql"

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        server.run(f"CREATE ROLE shop LOGIN PASSWORD '{PASSWORD}'")

    def begin(self) -> None:
        self.server.run("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        self.server.run("CREATE DATABASE shop OWNER shop")

    def left(self) -> str:
        return self.server.run("SELECT datname FROM pg_database WHERE datname LIKE 'liberu%'")

    @contextmanager
    def held(self) -> Iterator[None]:
        with psycopg.connect(
            host="127.0.0.1", port=self.server.port, user="admin", password=self.server.admin_password,
            dbname="postgres",
        ) as connection:  # fmt: skip
            connection.execute("COMMENT ON DATABASE template0 IS 'held'")
            yield

    def component(self, path: str = SEARCH_PATH, *, admin: bool = True) -> PostgresqlComponent:
        account = ("admin", self.server.admin_password) if admin else (None, None)
        target = PostgresqlTarget("shop", "shop", PASSWORD, "127.0.0.1", self.server.port, *account)
        return PostgresqlComponent(StandaloneDeployment(path), target)


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, Place]]:
    with mariadb_server(None, ["--event-scheduler=ON"]) as mariadb, postgresql_server() as postgresql:
        yield {"mariadb": Mariadb(mariadb), "postgresql": Postgresql(postgresql)}


@pytest.fixture(params=["mariadb", "postgresql"])
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Place:
    found = places[request.param]
    found.begin()
    return found


@pytest.fixture
def postgresql(places: dict[str, Place]) -> Place:
    places["postgresql"].begin()
    return places["postgresql"]


@pytest.fixture
def mariadb(places: dict[str, Place]) -> Place:
    places["mariadb"].begin()
    return places["mariadb"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others may enter."""
    made = Path(tempfile.mkdtemp(prefix="liberu-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="liberu-test-") as folder:
        made = Service(Path(folder), LIBERU_PROOF__FREE_BYTES="0")
        made.start()
        yield made
        made.stop()


MARIADB = """
CREATE TABLE orders (id int PRIMARY KEY AUTO_INCREMENT, note text, photo blob);
INSERT INTO orders (note, photo) VALUES ('it''s (one)', 0x00ff27), ('a;\\n(two), \\\\', NULL);
CREATE TABLE empty (id int PRIMARY KEY);
CREATE SEQUENCE numbers; CREATE TABLE counted (id int DEFAULT nextval(numbers) PRIMARY KEY);
CREATE TABLE kept (id int PRIMARY KEY) WITH SYSTEM VERSIONING; INSERT INTO kept VALUES (1), (2);
DELETE FROM kept WHERE id = 1;
CREATE VIEW notes AS SELECT note FROM orders; CREATE VIEW a_view AS SELECT * FROM notes;
CREATE FUNCTION twice (a int) RETURNS int DETERMINISTIC RETURN 2 * a;
CREATE PROCEDURE counted_daily ()
CREATE TABLE `made_by_a_call` (a int);
CREATE TRIGGER stamped BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = CONCAT(NEW.note, '!');
CREATE EVENT tidied ON SCHEDULE EVERY 1 SECOND DO INSERT IGNORE INTO empty VALUES (1);
"""
POSTGRESQL = """
CREATE SCHEMA crm; CREATE TYPE crm.mood AS ENUM ('sad', 'glad'); CREATE DOMAIN crm.positive AS int CHECK (value > 0);
CREATE TABLE crm.customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE, mood crm.mood);
INSERT INTO crm.customer (name, mood) SELECT g::text, 'glad' FROM generate_series(1, 1000) g;
CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON parted (at); INSERT INTO parted VALUES (1, '2026-05-05');
CREATE TABLE orders (id serial, customer int REFERENCES crm.customer, note text);
INSERT INTO orders (customer, note) VALUES (1, 'one'), (2, NULL);
CREATE INDEX found ON orders (lower(note)); CREATE STATISTICS both_of ON id, note FROM orders;
CREATE VIEW notes AS SELECT note FROM orders; CREATE MATERIALIZED VIEW summed AS SELECT count(*) FROM orders;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE RULE twice AS ON INSERT TO notes DO INSTEAD NOTHING; ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON orders USING (true); SELECT lo_from_bytea(0, 'large');
CREATE FUNCTION larger(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > $2';
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = larger);
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple); CREATE COLLATION odd (LOCALE = 'C');
"""


def fill(place: Place) -> None:
    place.owner(MARIADB if place.engine == "mariadb" else POSTGRESQL)


def part(backup: dict[str, Any]) -> dict[str, Any]:
    [found] = backup["components"]
    return dict(found)


def named(found: dict[str, Any], kind: str) -> dict[str, str]:
    """Codes and messages."""
    return {one["code"]: one["message"] for one in found[kind]}


def test_what_was_stored_is_loaded_and_nothing_stays(service: Service, place: Place) -> None:
    fill(place)
    backup = service.backup(place.domain(service), "database")
    assert backup["status"] == "completed", backup
    found = part(backup)
    assert (found["proved"], found["warnings"]) == ("loaded", [])
    assert not place.left()
    assert 'liberu_backup_databases_day{proved="loaded"}' in metrics(service)


def metrics(service: Service) -> str:
    with service.client() as client:
        return client.get("/metrics").text


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "CREATE TABLE z_limits (most int); INSERT INTO z_limits VALUES (5); CREATE FUNCTION below(int) RETURNS "
            "boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.z_limits WHERE most >= $1)'; "
            "CREATE TABLE a_things (n int CHECK (below(n))); INSERT INTO a_things VALUES (3);",
            'new row for relation "a_things" violates check constraint',
        ),
        (
            "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int CONSTRAINT broken REFERENCES p); "
            "ALTER TABLE c DISABLE TRIGGER ALL; INSERT INTO c VALUES (7);",
            'insert or update on table "c" violates foreign key constraint "broken"',
        ),
    ],
    ids=["check", "foreign-key"],
)
def test_rows_that_their_own_constraints_refuse_make_a_backup_partial(
    service: Service, postgresql: Place, sql: str, said: str
) -> None:
    if "DISABLE TRIGGER ALL" in sql:  # an administrator's: of the constraint's own triggers
        head, tail = sql.split("ALTER TABLE c DISABLE TRIGGER ALL; ")
        postgresql.owner(head)
        postgresql.server.run(f"SET session_replication_role = replica; {tail}", "shop")
    else:
        postgresql.owner(sql)
    backup = service.backup(postgresql.domain(service), "database")
    assert backup["status"] == "partial"
    assert said in backup["error_message"]
    message = named(part(backup), "incomplete")["not_loadable"]
    assert message.startswith("The dump does not load: statement ")
    assert "liberu" not in message
    assert part(backup)["proved"] == "listed"
    assert not postgresql.left()


def proving(service: Service, started: dict[str, Any]) -> None:
    """Until what was stored is about to be loaded."""
    service.until(
        lambda: service.call("GET", f"/api/operations/{started['id']}")["progress"],
        lambda found: any(part["state"] == "proving" for part in found.values()),
    )


def test_a_table_that_the_server_does_not_take_any_more_makes_a_backup_partial(
    service: Service, mariadb: Place
) -> None:
    """It requires keys from right after the dump on."""
    mariadb.owner("CREATE TABLE keyless (a int); INSERT INTO keyless VALUES (1)")
    body = {"domain_id": mariadb.domain(service)["id"], "type": "database"}
    try:
        with mariadb.held():
            started = service.call("POST", "/api/backups", 202, json=body)
            proving(service, started)
            mariadb.server.run("SET GLOBAL innodb_force_primary_key = ON")
        service.wait(started)
    finally:
        mariadb.server.run("SET GLOBAL innodb_force_primary_key = OFF")
    backup = service.call("GET", f"/api/backups/{started['backup_id']}")
    assert (backup["status"], part(backup)["proved"]) == ("partial", "listed")
    message = named(part(backup), "incomplete")["not_loadable"]
    assert message.startswith("The dump does not load: shop: ERROR 1173"), message
    assert "(CREATE TABLE `keyless`)" in message
    assert not mariadb.left()


async def test_a_dump_that_was_changed_does_not_load(mariadb: Place) -> None:
    fill(mariadb)
    dump = await mariadb.component().dump_to_prove()
    content = await collect(dump)
    assert dump.proof is not None
    changes = {
        b"CREATE TABLE `orders`": (b"CREATE TABLE `other`", "not_loadable", "ERROR 1146"),
        b"(2,'": (b"(1,'", "not_loadable", "(INSERT INTO `orders`)"),
        b"VIEW `notes` AS": (b"VIEW `note5` AS", "not_loadable", "`shop`.`notes`|'shop.notes'"),
    }
    for before, (after, code, said) in changes.items():
        assert before in content
        context = Context()
        report = await dump.proof.load(from_bytes(content.replace(before, after)), context.context, len(content))
        await mariadb.component().tidy(context.journal)
        assert codes(report) == [code]
        assert any(text in report.incomplete[0].message for text in said.split("|")), report.incomplete
    assert not mariadb.left()


def test_what_is_loaded_is_what_was_stored(folder: Path, place: Place) -> None:
    """The dump was good, and its file is damaged before it is read back."""
    fill(place)
    service = Service(folder, LIBERU_PROOF__FREE_BYTES="0")
    service.start()
    try:
        body = {"domain_id": place.domain(service)["id"], "type": "database"}
        with place.held():
            started = service.call("POST", "/api/backups", 202, json=body)
            proving(service, started)
            [stored] = (folder / "data").rglob("01-*shop*.zst*")
            content = bytearray(stored.read_bytes())
            content[len(content) // 2] ^= 1
            stored.write_bytes(content)
        service.wait(started)
        backup = service.call("GET", f"/api/backups/{started['backup_id']}")
    finally:
        service.stop()
    assert (backup["status"], part(backup)["proved"]) == ("partial", "listed")
    assert "What was stored cannot be read back" in named(part(backup), "incomplete")["not_loadable"]
    assert "not_loadable" not in named(part(backup), "warnings")
    assert not place.left()


def test_a_dump_waits_for_its_turn_at_a_server(folder: Path, place: Place) -> None:
    fill(place)
    service = Service(folder, LIBERU_PROOF__FREE_BYTES="0", LIBERU_PROOF__WAIT_SECONDS="0")
    service.start()
    try:
        first = {"domain_id": place.domain(service, shared=True)["id"], "type": "database"}
        other = place.domain(service, name="other.example.com", shared=True)
        with place.held():
            started = service.call("POST", "/api/backups", 202, json=first)
            service.until(lambda: service.call("GET", f"/api/domains/{first['domain_id']}/remains"), bool)
            second = service.backup(other, "database")
        service.wait(started)
        backup = service.call("GET", f"/api/backups/{started['backup_id']}")
    finally:
        service.stop()
    assert part(backup)["proved"] == "loaded"
    assert (second["status"], part(second)["proved"]) == ("completed", "listed")
    assert "other dumps were being loaded" in named(part(second), "warnings")["proof_not_done"]
    assert not place.left()


async def test_a_dump_of_less_than_there_was_does_not_pass(place: Place) -> None:
    """As if what was stored had lost rows and objects that nothing refers to."""
    fill(place)
    if place.engine == "mariadb":
        place.owner("DROP EVENT tidied")  # it makes rows
    lesser = await collect(await place.component().dump())
    place.owner("INSERT INTO orders (note) VALUES ('three'); CREATE TABLE later (a int)")
    dump = await place.component().dump_to_prove()
    await collect(dump)
    assert dump.proof is not None
    context = Context()
    report = await dump.proof.load(from_bytes(lesser), context.context, len(lesser))
    await place.component().tidy(context.journal)
    assert {(lack.code, lack.subject) for lack in report.incomplete} == (
        {("not_loadable", "later"), ("rows_differ", "orders")}
        if place.engine == "mariadb"
        else {("not_loadable", "table public.later"), ("rows_differ", "table public.orders")}
    )
    assert not place.left()


def program(where: Path, name: str, script: str) -> str:
    """A search path on which a script stands in a program's place."""
    where.mkdir(parents=True, exist_ok=True)
    (where / name).write_text(f"#!/bin/sh\n{script}\n")
    for path in (where / name, where):
        path.chmod(path.stat().st_mode | stat.S_IRWXU | stat.S_IXOTH | stat.S_IROTH)
    return f"{where}:{SEARCH_PATH}"


async def test_what_a_dump_lacks_is_named(folder: Path, place: Place) -> None:
    fill(place)
    if place.engine == "mariadb":
        script = 'first="$1"; shift; exec /usr/bin/mariadb-dump "$first" --ignore-table=shop.orders '
        path = program(folder / "bin", "mariadb-dump", script + '--skip-triggers --ignore-table=shop.notes "$@"')
        lacking = {"orders", "notes"}
    else:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1]
        script = f'case "$1" in --version) exec {found} "$1";; esac; exec {found} --exclude-table=orders "$@"'
        path = program(folder / "bin", "pg_dump", script)
        lacking = {
            "table public.orders", "index public.found", "trigger touched on public.orders",
            "policy seen on public.orders", "table constraint orders_customer_fkey on public.orders",
            "statistics object public.both_of",
        }  # fmt: skip
    dump = await place.component(path).dump()
    await collect(dump)
    named = {lack.subject for lack in dump.report.incomplete}
    assert codes(dump.report) and set(codes(dump.report)) == {"not_in_dump"}
    assert lacking <= named, named
    assert "proved" not in dump.report.facts


async def test_what_others_remove_meanwhile_is_not_lacking(folder: Path, mariadb: Place) -> None:
    """After the catalogue was read, and before the dump's snapshot."""
    fill(mariadb)
    mariadb.owner("CREATE TABLE a_cache (id int PRIMARY KEY)")
    dump = await mariadb.component().dump()
    mariadb.owner("DROP TABLE a_cache")
    assert b"a_cache" not in await collect(dump)
    assert (codes(dump.report), dump.report.facts["proved"]) == ([], "listed")


async def test_without_an_administrator_what_a_dump_holds_is_listed(place: Place) -> None:
    fill(place)
    dump = await place.component(admin=False).dump_to_prove()
    await collect(dump)
    assert (dump.proof, codes(dump.report), dump.report.facts["proved"]) == (None, [], "listed")


def test_a_proof_that_is_not_wanted_or_not_possible(service: Service, place: Place) -> None:
    fill(place)
    ended = part(service.backup(place.domain(service, proof="list"), "database"))
    assert (ended["proved"], ended["warnings"]) == ("listed", [])
    ended = part(service.backup(place.domain(service, admin=False), "database"))
    assert (ended["proved"], ended["warnings"]) == ("listed", [])
    backup = service.backup(place.domain(service, admin=False, proof="load"), "database")
    assert (backup["status"], part(backup)["proved"]) == ("completed", "listed")
    assert "no admin account" in named(part(backup), "warnings")["proof_not_done"]


@pytest.mark.parametrize(
    ("settings", "host", "said"),
    [
        ({"LIBERU_PROOF__MAX_BYTES": "10"}, "127.0.0.1", "at most"),
        ({"LIBERU_PROOF__FREE_BYTES": str(1 << 60)}, "127.0.0.1", "are free at the database server"),
        ({"LIBERU_PROOF__UNKNOWN_ROOM_BYTES": "10"}, "127.1", "cannot be told"),
        ({"LIBERU_PROOF__LOAD": "false"}, "127.0.0.1", None),
    ],
)
def test_the_installation_bounds_proofs(
    folder: Path,
    postgresql: Place,
    settings: dict[str, str],
    host: str,
    said: str | None,
) -> None:
    fill(postgresql)
    service = Service(folder, **settings)
    service.start()
    try:
        backup = service.backup(postgresql.domain(service, host=host), "database")
    finally:
        service.stop()
    assert (backup["status"], part(backup)["proved"]) == ("completed", "listed")
    warnings = named(part(backup), "warnings")
    assert warnings == {} if said is None else said in warnings["proof_not_done"]


async def test_a_server_that_would_refuse_the_owners_triggers_is_not_the_dumps_fault(service: Service) -> None:
    with mariadb_server(None, ["--log-bin=binlog", "--server-id=7"]) as server:
        place = Mariadb(server)
        place.begin()
        server.run("CREATE TABLE t (id int PRIMARY KEY)", "shop")
        server.run("CREATE DEFINER=shop@'127.0.0.1' TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1", "shop")
        backup = service.backup(place.domain(service), "database")
        assert (backup["status"], part(backup)["proved"]) == ("completed", "listed")
        assert "log_bin_trust_function_creators" in named(part(backup), "warnings")["proof_not_done"]
        assert part(backup)["position"]["exact"]
        dump, context = await place.component().dump_to_prove(), Context()
        content = await collect(dump)
        assert dump.proof is not None
        with pytest.raises(ProofImpossible, match="ERROR 1419"):  # where nobody has looked before
            await dump.proof.load(from_bytes(content), context.context, len(content))
        await place.component().tidy(context.journal)
        assert not place.left()


def test_a_schedule_comes_before_the_domain_and_that_before_the_destination(
    service: Service, postgresql: Place
) -> None:
    fill(postgresql)
    [place] = service.call("GET", "/api/backup-destinations")["data"]
    keys = ("name", "type", "configuration", "is_default", "encrypt")
    body = {key: place[key] for key in keys}
    service.call("PUT", f"/api/backup-destinations/{place['id']}", json=body | {"proof": "list"})
    assert part(service.backup(postgresql.domain(service), "database"))["proved"] == "listed"
    domain = postgresql.domain(service, proof="load")
    assert part(service.backup(domain, "database"))["proved"] == "loaded"
    service.call("PUT", f"/api/backup-destinations/{place['id']}", json=body)
    body = {"name": "nightly", "domain_id": domain["id"], "type": "database", "frequency": "daily", "proof": "list"}
    schedule = service.call("POST", "/api/backup-schedules", 201, json=body)
    assert schedule["proof"] == "list"
    service.call("POST", f"/api/backup-schedules/{schedule['id']}/run", 202)
    newest = service.until(
        lambda: service.call("GET", "/api/backups?sort=-created_at")["data"][0],
        lambda found: found["is_automated"] and found["status"] not in ("pending", "running"),
    )
    assert part(newest)["proved"] == "listed"


#: Its rows take for ever, but only in a scratch database.
SLOW = """
CREATE FUNCTION slow() RETURNS boolean LANGUAGE sql AS $$
  SELECT pg_sleep(CASE WHEN current_database() LIKE 'liberu%' THEN 600 ELSE 0 END) IS NOT NULL $$;
CREATE TABLE t (n int CHECK (slow())); INSERT INTO t VALUES (1);
"""


def test_a_proof_that_does_not_end_and_a_kill_leave_nothing(folder: Path, postgresql: Place) -> None:
    postgresql.owner(SLOW)
    service = Service(folder, LIBERU_PROOF__FREE_BYTES="0", LIBERU_PROOF__SECONDS="8")
    service.start()
    try:
        domain = postgresql.domain(service)
        started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "database"})
        sql = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'liberu%' AND wait_event = 'PgSleep'"
        service.until(lambda: postgresql.server.run(sql), lambda found: found != "0")
        service.kill()
        [first] = postgresql.left().split()
        service.start()
        ended = service.wait(started)
        backup = service.call("GET", f"/api/backups/{started['backup_id']}")
    finally:
        service.stop()
    assert (ended["status"], ended["attempt"]) == ("completed", 2), ended
    assert part(backup)["proved"] == "listed"
    assert "longer than 8 seconds" in named(part(backup), "warnings")["proof_not_done"]
    assert first.startswith("liberu-proof-")
    assert not postgresql.left()


#: Loading it takes long enough to be killed meanwhile.
LARGE = """
CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t SELECT seq, REPEAT('x', 200) FROM seq_1_to_200000;
"""


def test_a_killed_proof_of_mariadb_is_done_again(service: Service, mariadb: Place) -> None:
    mariadb.owner(LARGE)
    domain = mariadb.domain(service)
    started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "database"})
    service.until(mariadb.left, lambda found: "liberu-new" in found, pause=0.01)
    service.kill()
    assert mariadb.left()
    service.start()
    ended = service.wait(started)
    assert (ended["status"], ended["attempt"]) == ("completed", 2), ended
    assert part(service.call("GET", f"/api/backups/{started['backup_id']}"))["proved"] == "loaded"
    assert not mariadb.left()


def test_what_a_given_up_proof_has_left_is_removed(folder: Path, place: Place) -> None:
    """Even when the live database is gone as well."""
    place.owner(LARGE if place.engine == "mariadb" else SLOW)
    service = Service(
        folder, LIBERU_PROOF__FREE_BYTES="0", LIBERU_PROOF__SECONDS="4", LIBERU_PROOF__WAIT_SECONDS="0",
        LIBERU_RESTORES__TIDY_SECONDS="0.5", LIBERU_JOBS__MAX_ATTEMPTS="1",
    )  # fmt: skip
    service.start()
    try:
        domain = place.domain(service)
        started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "database"})
        service.until(place.left, bool, pause=0.01)
        service.kill()
        place.server.run("DROP DATABASE shop" + (" WITH (FORCE)" if place.engine == "postgresql" else ""))
        service.start()
        assert service.wait(started)["status"] == "failed"
        service.until(place.left, lambda found: not found)
    finally:
        service.stop()


def test_a_scratch_database_that_stays_is_named_and_removed_later(folder: Path, postgresql: Place) -> None:
    """It cannot be dropped while somebody has made a template of it."""
    postgresql.owner(SLOW)
    service = Service(
        folder, LIBERU_PROOF__FREE_BYTES="0", LIBERU_PROOF__SECONDS="8", LIBERU_RESTORES__TIDY_SECONDS="0.5"
    )
    service.start()
    try:
        body = {"domain_id": postgresql.domain(service)["id"], "type": "database"}
        started = service.call("POST", "/api/backups", 202, json=body)
        scratch = service.until(postgresql.left, bool).strip()
        postgresql.server.run(f'ALTER DATABASE "{scratch}" IS_TEMPLATE true')
        assert service.wait(started)["status"] == "completed"
        backup = service.call("GET", f"/api/backups/{started['backup_id']}")
        assert part(backup)["proved"] == "listed"
        assert "cannot drop a template database" in named(part(backup), "warnings")["scratch_left"]
        postgresql.server.run(f'ALTER DATABASE "{scratch}" IS_TEMPLATE false')
        service.until(postgresql.left, lambda found: not found)
    finally:
        service.stop()


async def test_one_dump_at_a_time_is_loaded_at_a_server(database: Database) -> None:
    async with database.transaction() as session:
        for number in (1, 2):
            session.add(
                Operation(
                    uid=f"op{number}", type="backup", status="running", domain_uid=f"d{number}", request={}, attempt=1
                )
            )

    async def take(uid: str, attempt: int, part: str = "1") -> bool:
        try:
            async with database.transaction() as session:
                await ProofTurnRepository(session).take("server", uid, attempt, part)
        except IntegrityError:
            return False
        return True

    assert await take("op1", 1)
    assert not await take("op2", 1)
    assert not await take("op1", 1, "2")
    async with database.transaction() as session:
        found = await session.get(Operation, 1)
        assert found is not None
        found.attempt = 2  # its process was killed
    assert await take("op1", 2, "2")
    async with database.transaction() as session:
        await ProofTurnRepository(session).give_back("server", "op1", 2, "2")
    assert await take("op2", 1)


ROWS = rb"""-- a dump, it's (one)
CREATE TABLE `t` (
  `a` int
);
INSERT INTO `t` VALUES (1,'it\'s (not) one;'),(2,'\\'),(3,''),(4,0x28),(5,_binary '(;\n');
INSERT INTO `o``dd` (`a`, `b)`) VALUES
(1,'(a)'),
(2,'b');
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER `tr` BEFORE INSERT ON `t` FOR EACH ROW BEGIN
INSERT INTO `t` VALUES (1),(2);
END */;;
CREATE PROCEDURE `p`()
BEGIN
CREATE TABLE `made_by_a_call` (a int);
END ;;
DELIMITER ;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select 1 */;
/*!50001 CREATE VIEW `stand_in` AS SELECT 1 AS `a`*/;
INSERT INTO `t` VALUES (6,'x');
-- Dump completed
"""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 10_000])
def test_rows_and_objects_are_found_however_a_dump_is_cut(size: int) -> None:
    contents = DumpContents(counting=True)
    for start in range(0, len(ROWS), size):
        contents.feed(ROWS[start : start + size])
    assert contents.rows == {"t": 6, "o`dd": 2}
    assert contents.made == {("table", "t"), ("trigger", "tr"), ("view", "v"), ("PROCEDURE", "p")}


PLANTED = """
CREATE SCHEMA evil; CREATE TABLE evil.seen (who text, what text);
CREATE FUNCTION evil.note(text) RETURNS void LANGUAGE sql AS
  'INSERT INTO evil.seen VALUES (current_user, $1)';
CREATE FUNCTION evil.pg_encoding_to_char(int) RETURNS name LANGUAGE sql AS
  $$ SELECT evil.note('encoding'); SELECT 'UTF8'::name $$;
CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE sql AS
  $$ SELECT evil.note('database'); SELECT 'shop'::name $$;
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS
  $$ SELECT evil.note('setting'); SELECT '150000' $$;
CREATE FUNCTION evil.pg_terminate_backend(int) RETURNS boolean LANGUAGE sql AS
  $$ SELECT evil.note('terminate'); SELECT true $$;
CREATE FUNCTION evil.same(name, name) RETURNS boolean LANGUAGE sql AS
  $$ SELECT evil.note('operator'); SELECT true $$;
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.same);
ALTER DATABASE shop SET search_path = evil, pg_catalog;
"""


def test_an_owner_who_plants_functions_runs_none_of_them_as_the_administrator(
    service: Service, postgresql: Place
) -> None:
    postgresql.owner(PLANTED)
    postgresql.server.run("CREATE EXTENSION pgcrypto SCHEMA evil", "shop")
    assert part(service.backup(postgresql.domain(service), "database"))["proved"] == "loaded"
    assert not postgresql.owner("SELECT * FROM evil.seen WHERE who <> 'shop'")
    assert not postgresql.left()
