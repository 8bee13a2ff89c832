-- Extended statistics of every kind and statistics targets.
-- since: 15
CREATE TABLE t (a int, b int, c text);
INSERT INTO t SELECT g, g / 10, g::text FROM generate_series(1, 100) g;
CREATE STATISTICS s (ndistinct, dependencies, mcv) ON a, b FROM t;
CREATE STATISTICS s_expression ON (a + b), lower(c) FROM t;
ALTER STATISTICS s SET STATISTICS 42;
ALTER TABLE t ALTER COLUMN a SET STATISTICS 77, ALTER COLUMN b SET (n_distinct = -0.5, n_distinct_inherited = 3);
COMMENT ON STATISTICS s IS 'stats';
