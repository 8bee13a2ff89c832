-- Views over functions of the tenant, and a function over a view.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int); INSERT INTO t VALUES (1);
CREATE FUNCTION f(a int) RETURNS int DETERMINISTIC RETURN a * 2;
CREATE VIEW v AS SELECT f(id) AS n FROM t;
CREATE FUNCTION g() RETURNS int READS SQL DATA RETURN (SELECT MAX(n) FROM v);
CREATE VIEW w AS SELECT g() AS n;
