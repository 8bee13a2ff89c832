-- Grants on tables, columns and routines to other accounts and roles.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
CREATE PROCEDURE p() SELECT 1; CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 1; CREATE VIEW v AS SELECT id FROM t;
-- admin:
GRANT SELECT ON zoo_live.t TO reader; GRANT SELECT (n), UPDATE (n) ON zoo_live.t TO other@'%'; GRANT SELECT ON zoo_live.v TO other@'%';
GRANT EXECUTE ON PROCEDURE zoo_live.p TO other@'%'; GRANT EXECUTE ON FUNCTION zoo_live.f TO other@'%';
