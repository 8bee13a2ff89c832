-- System-versioned tables with history: of rows and with partitions for it.
-- since: mariadb 10.3
CREATE TABLE t (id int PRIMARY KEY, n int) WITH SYSTEM VERSIONING;
INSERT INTO t VALUES (1, 1), (2, 2); UPDATE t SET n = 10 WHERE id = 1; DELETE FROM t WHERE id = 2;
