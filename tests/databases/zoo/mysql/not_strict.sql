-- Tables that InnoDB takes only where it is not strict: rows that could be too long, a row format with a key block size.
-- since: mariadb 10.3
SET SESSION innodb_strict_mode = 0, group_concat_max_len = 100000;
SET @c = (WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60) SELECT GROUP_CONCAT('c', n, ' varchar(200)') FROM n);
SET @sql = CONCAT('CREATE TABLE w (', @c, ') ROW_FORMAT=COMPACT CHARACTER SET utf8mb4'); PREPARE s FROM @sql; EXECUTE s;
INSERT INTO w (c1, c60) VALUES ('a', REPEAT('b', 200));
CREATE TABLE f (id int PRIMARY KEY, n text) ROW_FORMAT=DYNAMIC KEY_BLOCK_SIZE=8; INSERT INTO f VALUES (1, 'x');
