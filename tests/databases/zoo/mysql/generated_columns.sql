-- Generated columns, virtual and stored, indexed, over each other, of text and JSON.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, a int, v int AS (a * 2) VIRTUAL, s varchar(40) AS (CONCAT('it''s \\ ', a)) STORED, w int AS (v + 1) VIRTUAL, j json, n int AS (JSON_EXTRACT(j, '$.n')) VIRTUAL, KEY (v), UNIQUE KEY (n), KEY (s, w));
INSERT INTO t (id, a, j) VALUES (1, 5, '{"n": 3}'), (2, NULL, NULL);
