-- Descending and ignored indexes.
-- since: mariadb 10.8
CREATE TABLE t (id int PRIMARY KEY, a int, KEY d (a DESC), KEY i (a) IGNORED); INSERT INTO t VALUES (1, 1);
CREATE TABLE h (b longtext, UNIQUE (b)); INSERT INTO h VALUES ('x');
