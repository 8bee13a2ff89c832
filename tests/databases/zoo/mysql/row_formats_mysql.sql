-- Row formats, compression and table options of MySQL.
-- since: mysql 8.0
CREATE TABLE a (id int PRIMARY KEY, n text) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4; INSERT INTO a VALUES (1, 'x');
CREATE TABLE b (id int PRIMARY KEY) COMPRESSION='zlib'; CREATE TABLE c (id int) ROW_FORMAT=REDUNDANT AUTOEXTEND_SIZE=4M;
