-- Indexes: prefixes, unique, fulltext, of every option and comment, on several columns.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY COMMENT 'it''s', a varchar(200), b text, c int, UNIQUE KEY u (a(20), c), KEY p (b(30)), FULLTEXT KEY f (a, b), KEY `odd ``k` (c) USING BTREE COMMENT 'it''s \\', KEY `null` (a) KEY_BLOCK_SIZE=4) STATS_PERSISTENT=1 STATS_AUTO_RECALC=0 COMMENT='it''s a "table" \\ ; --';
INSERT INTO t VALUES (1, 'a', 'the text', 2);
