-- A server whose sql_mode has ANSI_QUOTES, NO_BACKSLASH_ESCAPES and ORACLE's pipes for everybody.
-- since: mariadb 10
-- server: --sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,NO_ZERO_DATE,STRICT_ALL_TABLES
CREATE TABLE "t" (id int PRIMARY KEY, "n" varchar(20)); INSERT INTO t VALUES (1, 'a\'), (2, 'it''s "x"');
CREATE VIEW "v" AS SELECT "n" FROM "t"; CREATE PROCEDURE "p"() SELECT '\' || "n" FROM "t"; CREATE FUNCTION f() RETURNS varchar(5) DETERMINISTIC RETURN '\';
