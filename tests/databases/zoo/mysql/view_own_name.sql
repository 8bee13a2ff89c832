-- Views, triggers and routines that name their own database.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
CREATE VIEW v AS SELECT id FROM zoo_live.t;
CREATE TABLE log (id int);
CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO zoo_live.log VALUES (NEW.id);
CREATE PROCEDURE p() SELECT COUNT(*) FROM zoo_live.t;
