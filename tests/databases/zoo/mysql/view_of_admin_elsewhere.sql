-- A view of an administrator on a database that the tenant may not read.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int); INSERT INTO t VALUES (1);
-- admin:
CREATE TABLE zoo_elsewhere.secret (id int); INSERT INTO zoo_elsewhere.secret VALUES (1);
CREATE VIEW v AS SELECT id FROM zoo_elsewhere.secret;
