-- A view whose definer is gone.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
-- admin:
CREATE USER goner@'localhost' IDENTIFIED BY 'x'; GRANT ALL ON zoo_live.* TO goner@'localhost';
CREATE DEFINER=goner@'localhost' VIEW v AS SELECT id FROM t;
DROP USER goner@'localhost';
