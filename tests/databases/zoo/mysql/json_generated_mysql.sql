-- Functional and multi-valued indexes, invisible columns, SRID, default expressions.
-- since: mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, j json, n varchar(20), hidden int DEFAULT 5 INVISIBLE, u binary(16) DEFAULT (UUID_TO_BIN(UUID())), b text DEFAULT ('x'), p point NOT NULL SRID 4326, SPATIAL KEY (p), KEY f ((LOWER(n))), KEY m ((CAST(j->'$.a' AS UNSIGNED ARRAY))), KEY d (n DESC, id) INVISIBLE, CONSTRAINT c CHECK (id > 0) NOT ENFORCED);
INSERT INTO t (id, j, n, p) VALUES (1, '{"a": [1, 2]}', 'X', ST_GeomFromText('POINT(1 2)', 4326)), (-1, NULL, 'y', ST_GeomFromText('POINT(3 4)', 4326));
UPDATE t SET hidden = 77 WHERE id = 1;
