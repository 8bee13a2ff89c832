-- Temporary tables are nobody's: only what is kept comes back.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY); CREATE TEMPORARY TABLE tmp (id int); INSERT INTO t VALUES (1); INSERT INTO tmp VALUES (1);
