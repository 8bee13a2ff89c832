-- Binary columns of all kinds with every byte, binary text columns, and BIT.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, a binary(20), b varbinary(300), c tinyblob, d blob, e mediumblob, f longblob, g varchar(20) CHARACTER SET binary, h char(5) COLLATE utf8mb4_bin, i bit(1), j bit(64) DEFAULT b'101', k bit(9));
INSERT INTO t VALUES (1, 0x00ff5c0a, UNHEX('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2022275c5f257f80ff'), 0x1a, 0x00, '', NULL, 0xff, 'é', b'1', 0xffffffffffffffff, b'100000001'), (2, '', '', '', '', 0x27, 0x5c, '\\', '', b'0', 0, NULL);
