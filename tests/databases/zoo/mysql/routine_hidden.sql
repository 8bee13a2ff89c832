-- A routine of another account, whose body the tenant may not see.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
-- admin:
CREATE DEFINER=other@'%' PROCEDURE theirs() SELECT 1;
CREATE PROCEDURE of_admin() SELECT 2;
