-- Invisible columns with values of their own.
-- since: mariadb 10.3, mysql 8.0.23
CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT 5 INVISIBLE, b int);
INSERT INTO t (id, a, b) VALUES (1, 77, 2), (2, 78, 3);
