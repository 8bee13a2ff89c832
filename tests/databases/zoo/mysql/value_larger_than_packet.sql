-- A value larger than the server takes now.
-- since: mariadb 10, mysql 8.0
-- server: --max-allowed-packet=1M
-- admin:
SET GLOBAL max_allowed_packet = 16777216;
-- owner:
CREATE TABLE t (id int PRIMARY KEY, b mediumblob);
INSERT INTO t VALUES (1, REPEAT(0x00ff5c0a, 500 * 1024));
-- admin:
SET GLOBAL max_allowed_packet = 1048576;
