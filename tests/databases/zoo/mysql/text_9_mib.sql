-- Text of 12 MiB, half of which must be escaped.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, b longtext);
INSERT INTO t VALUES (1, REPEAT('a''', 6 * 1024 * 1024));
