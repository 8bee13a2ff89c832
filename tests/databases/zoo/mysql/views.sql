-- Views: on views, of every algorithm and security, with column names, expressions and comments in them.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, `odd ``c` varchar(20)); INSERT INTO t VALUES (1, 'x');
CREATE VIEW z AS SELECT id, `odd ``c` AS n FROM t;
CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW a AS SELECT id FROM z WHERE n <> 'it''s \\ --';
CREATE ALGORITHM=TEMPTABLE VIEW b (`x y`, `select`) AS SELECT COUNT(*), MAX(n) FROM z GROUP BY id;
CREATE VIEW u AS SELECT id FROM t UNION SELECT 5; CREATE VIEW nothing AS SELECT 1 AS one, _latin1 'é' AS e, 'ü' COLLATE utf8mb4_bin AS ue;
