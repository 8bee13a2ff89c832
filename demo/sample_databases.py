"""Sample databases with what is hard to keep, and checksums to compare them by."""

from __future__ import annotations

from demo.servers import MariadbServer, PostgresqlServer

PASSWORD = "demo-pw"

_MARIADB = r"""
CREATE TABLE customer (id int PRIMARY KEY AUTO_INCREMENT, name varchar(200), photo mediumblob, KEY (name));
INSERT INTO customer (name, photo) SELECT CONCAT('Zoë 😀 it''s \\ ', seq), UNHEX(SHA2(seq, 512)) FROM seq_1_to_20000;
CREATE TABLE orders (id int PRIMARY KEY, customer int, note text, FOREIGN KEY (customer) REFERENCES customer (id));
INSERT INTO orders SELECT seq, seq, CONCAT('line\nbreak;-- ', seq) FROM seq_1_to_20000;
CREATE TABLE audit (what text);
CREATE VIEW names AS SELECT name FROM customer;
DELIMITER //
CREATE TRIGGER audited AFTER INSERT ON orders FOR EACH ROW BEGIN INSERT INTO audit VALUES (NEW.note); END//
CREATE FUNCTION twice(a int) RETURNS int DETERMINISTIC RETURN a * 2//
CREATE PROCEDURE hello() BEGIN SELECT 'ünïcode'; END//
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM audit//
DELIMITER ;
"""
_MARIADB_SUM = """
CHECKSUM TABLE customer, orders, audit; SELECT COUNT(*) FROM names; SELECT twice(21); CALL hello();
SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = DATABASE();
SELECT event_name, event_definition FROM information_schema.events WHERE event_schema = DATABASE();
"""
_POSTGRESQL = r"""
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, photo bytea, mood mood);
INSERT INTO customer (name, photo, mood)
  SELECT 'Zoë 😀 it''s \ ' || g, decode(md5(g::text), 'hex'), 'glad' FROM generate_series(1, 20000) g;
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer, note text);
INSERT INTO orders SELECT g, g, E'line\nbreak\t\\.' || g FROM generate_series(1, 20000) g;
CREATE VIEW names AS SELECT name FROM customer;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.name := new.name || '!'; RETURN new; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();
"""
_POSTGRESQL_SUM = """
SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM customer c;
SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o;
SELECT count(*) FROM names; SELECT tgname FROM pg_trigger WHERE NOT tgisinternal;
SELECT last_value FROM customer_id_seq;
"""


class SampleMariadb:
    """`in_container`: the database's own container names the accounts; the domain's setting does not."""

    def __init__(self, server: MariadbServer, *, in_container: bool = False) -> None:
        self._server = server
        server.run(
            f"CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER shop@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"
        )
        server.run("GRANT ALL ON shop.* TO shop@'127.0.0.1'")
        self._run(_MARIADB)
        self.row = {
            "engine": "mariadb", "name": "shop", "username": "shop", "password": PASSWORD, "host": "127.0.0.1",
            "port": server.port, "admin_username": "admin", "admin_password": server.admin_password,
        }  # fmt: skip
        if in_container:
            self.row = {"engine": "mariadb", "name": "shop"}

    def _run(self, sql: str) -> str:
        return self._server.run(sql, "shop", "shop", PASSWORD)

    def checksum(self, database: str = "shop") -> str:
        return self._server.run(_MARIADB_SUM, database)

    def damage(self) -> str:
        self._run("DROP TRIGGER audited; DROP TABLE orders; UPDATE customer SET name = 'x'; DROP FUNCTION twice")
        return "table orders, a trigger and a function dropped, 20,000 rows overwritten"


class SamplePostgresql:
    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server
        server.run(f"CREATE ROLE crm LOGIN PASSWORD '{PASSWORD}'")
        server.run("CREATE DATABASE crm OWNER crm")
        self._run(_POSTGRESQL)
        self.row = {
            "engine": "postgresql", "name": "crm", "username": "crm", "password": PASSWORD, "host": "127.0.0.1",
            "port": server.port,
        }  # fmt: skip

    def _run(self, sql: str) -> str:
        return self._server.run(sql, "crm", "crm", PASSWORD)

    def checksum(self, database: str = "crm") -> str:
        return self._server.run(_POSTGRESQL_SUM, database, "crm", PASSWORD)

    def damage(self) -> str:
        self._run(
            "DROP TABLE orders; DELETE FROM customer WHERE id % 2 = 0; "
            "CREATE TABLE newer (id int REFERENCES customer); DROP VIEW names"
        )
        return "table orders and a view dropped, 10,000 rows deleted, a newer table added"
