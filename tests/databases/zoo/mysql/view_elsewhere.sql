-- A view on another database, which the tenant may read; where it is copied to another name, the copier may not.
-- since: mariadb 10, mysql 8.0
-- admin:
CREATE TABLE zoo_elsewhere.t (id int); INSERT INTO zoo_elsewhere.t VALUES (1);
GRANT SELECT ON zoo_elsewhere.* TO owner@'127.0.0.1';
-- owner:
CREATE TABLE t (id int); INSERT INTO t VALUES (1);
CREATE VIEW v AS SELECT a.id FROM zoo_elsewhere.t a JOIN t USING (id);
