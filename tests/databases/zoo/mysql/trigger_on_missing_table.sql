-- A trigger and a procedure that use tables which are gone.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE gone (id int); INSERT INTO t VALUES (1);
CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO gone VALUES (NEW.id);
CREATE PROCEDURE p() SELECT * FROM gone;
DROP TABLE gone;
