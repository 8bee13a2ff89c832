-- A definer with a double quote and backquote in its name, under ANSI_QUOTES.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
-- admin:
CREATE USER 'qu"ote`d' IDENTIFIED BY 'x'; GRANT ALL ON zoo_live.* TO 'qu"ote`d';
SET sql_mode = 'ANSI_QUOTES';
CREATE DEFINER="qu""ote`d" PROCEDURE p() SELECT "n" FROM "t";
CREATE DEFINER="qu""ote`d" TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.n = 5;
CREATE DEFINER="qu""ote`d" VIEW v AS SELECT n FROM t;
CREATE DEFINER="qu""ote`d" EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t;
DROP USER 'qu"ote`d';
