-- A server that refuses tables without a primary key, and one that came before.
-- since: mariadb 10
-- server: --innodb-force-primary-key=OFF
-- admin:
SET GLOBAL innodb_force_primary_key = OFF;
-- owner:
CREATE TABLE t (n int); INSERT INTO t VALUES (1);
-- admin:
SET GLOBAL innodb_force_primary_key = ON;
