-- Views: on views, CHECK OPTION of both kinds, security_barrier, security_invoker, recursive, column names and defaults.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY, n int);
INSERT INTO t VALUES (1, 5), (2, 50);
CREATE VIEW z AS SELECT * FROM t WHERE n > 1;
CREATE VIEW a WITH (security_barrier) AS SELECT id, n FROM z WHERE n < 99 WITH LOCAL CHECK OPTION;
CREATE VIEW b WITH (security_invoker = true) AS SELECT * FROM a WITH CASCADED CHECK OPTION;
ALTER VIEW a ALTER COLUMN n SET DEFAULT 7;
CREATE RECURSIVE VIEW numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 5;
CREATE VIEW grouped AS SELECT id, n, count(*) FROM t GROUP BY id;
CREATE VIEW empty_list AS SELECT FROM t;
CREATE VIEW "odd ""v" ("a b", "select") AS SELECT 1, 'x'::text;
COMMENT ON VIEW a IS 'v'; COMMENT ON COLUMN a.n IS 'vc';
