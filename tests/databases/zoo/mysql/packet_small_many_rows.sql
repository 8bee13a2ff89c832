-- A server whose packet is 1 MiB, and many small rows, which the dump program puts into one statement.
-- since: mariadb 10, mysql 8.0
-- server: --max-allowed-packet=1M
CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, b varchar(500));
INSERT INTO t (b) WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900) SELECT REPEAT('x', 400) FROM n;
INSERT INTO t (b) SELECT b FROM t; INSERT INTO t (b) SELECT b FROM t; INSERT INTO t (b) SELECT b FROM t;
