-- A table whose files lie elsewhere (DATA DIRECTORY).
-- since: mariadb 10
-- admin:
CREATE TABLE t (id int PRIMARY KEY) DATA DIRECTORY='/tmp'; INSERT INTO t VALUES (1);
