-- Row formats, compression, key block sizes, and columns that are compressed.
-- since: mariadb 10.3
CREATE TABLE a (id int PRIMARY KEY, n text) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4; INSERT INTO a VALUES (1, 'x');
CREATE TABLE b (id int PRIMARY KEY, n text) PAGE_COMPRESSED=1 PAGE_COMPRESSION_LEVEL=3; INSERT INTO b VALUES (1, 'x');
CREATE TABLE c (id int PRIMARY KEY, n text COMPRESSED, v varchar(9000) COMPRESSED=zlib) ROW_FORMAT=DYNAMIC; INSERT INTO c VALUES (1, REPEAT('x', 900), 'y');
CREATE TABLE d (id int) ROW_FORMAT=REDUNDANT; CREATE TABLE e (id int) ROW_FORMAT=COMPACT;
