-- A server whose packet is 1 MiB, and a row of 900 KiB.
-- since: mariadb 10, mysql 8.0
-- server: --max-allowed-packet=1M
CREATE TABLE t (id int PRIMARY KEY, b mediumblob);
INSERT INTO t VALUES (1, REPEAT(0x00ff5c0a, 225 * 1024)), (2, REPEAT('x', 900));
