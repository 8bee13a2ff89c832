-- A row of three BLOBs of 6 MiB each: larger than the server's default packet in any encoding.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, a longblob, b longblob, c longblob);
INSERT INTO t VALUES (1, REPEAT(0x00ff5c0a, 1536 * 1024), REPEAT(0x00ff5c0a, 1536 * 1024), REPEAT(0x00ff5c0a, 1536 * 1024)), (2, NULL, NULL, NULL);
