-- NULLS NOT DISTINCT in a constraint and in an index.
-- since: 15
CREATE TABLE t (id int, a int, UNIQUE NULLS NOT DISTINCT (id, a));
CREATE UNIQUE INDEX i ON t (a) NULLS NOT DISTINCT WHERE a IS NULL;
INSERT INTO t VALUES (1, NULL), (2, 2);
