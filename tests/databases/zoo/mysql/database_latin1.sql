-- A database of latin1, with routines and triggers that take its character set.
-- since: mariadb 10, mysql 8.0
-- database: CHARACTER SET latin1 COLLATE latin1_german2_ci
CREATE TABLE t (id int PRIMARY KEY, n varchar(20) DEFAULT 'ü'); INSERT INTO t VALUES (1, 'ß');
CREATE FUNCTION f(a varchar(20)) RETURNS varchar(20) DETERMINISTIC RETURN CONCAT(a, 'ü€');
CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.n = 'ä';
CREATE VIEW v AS SELECT 'ö' AS o, n FROM t;
