-- A BLOB of 9 MiB: hexadecimal doubles it, and the server's default packet is 16 MiB.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, b longblob);
INSERT INTO t VALUES (1, REPEAT(0x00ff5c0a27, 9 * 1024 * 1024 DIV 5));
