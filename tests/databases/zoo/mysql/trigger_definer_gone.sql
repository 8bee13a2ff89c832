-- Triggers, routines and events whose definers are gone or have odd hosts and quotes in their names.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
-- admin:
CREATE USER 'it''s a `goner' IDENTIFIED BY 'x', goner@'192.168.0.0/255.255.0.0' IDENTIFIED BY 'x', goner@'%.example.test' IDENTIFIED BY 'x';
GRANT ALL ON zoo_live.* TO 'it''s a `goner', goner@'192.168.0.0/255.255.0.0', goner@'%.example.test';
CREATE DEFINER='it''s a `goner' TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.n = 5;
CREATE DEFINER=goner@'192.168.0.0/255.255.0.0' PROCEDURE p() SELECT 1;
CREATE DEFINER=goner@'%.example.test' FUNCTION f() RETURNS int DETERMINISTIC RETURN 1;
CREATE DEFINER='it''s a `goner' EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t;
DROP USER 'it''s a `goner', goner@'192.168.0.0/255.255.0.0', goner@'%.example.test';
