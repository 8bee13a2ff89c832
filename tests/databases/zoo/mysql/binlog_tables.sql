-- A server with a binary log, and tables, views and procedures only.
-- since: mariadb 10, mysql 8.0
-- server: --log-bin=binlog --server-id=1
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
CREATE VIEW v AS SELECT id FROM t; CREATE PROCEDURE p() SELECT 1;
