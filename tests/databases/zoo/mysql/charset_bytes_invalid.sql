-- Bytes in text columns that are wrong in their character set: latin1 taken for UTF-8 and the other way round.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n varchar(50) CHARACTER SET latin1, m varchar(50) CHARACTER SET ascii);
INSERT INTO t VALUES (1, CONVERT(CONVERT('é' USING utf8mb4) USING binary), 'x'), (2, 0x818d8f909d, 'y');
