-- A database of a collation whose character set is not UTF-8's default.
-- since: mariadb 10, mysql 8.0
-- database: CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
CREATE TABLE T (id int PRIMARY KEY, n varchar(20)); CREATE TABLE t2 (id int); INSERT INTO T VALUES (1, 'A');
CREATE PROCEDURE p(a varchar(10)) SELECT a;
