-- A materialized view that is older than its table: a dump holds no rows of it, and a restore makes them anew.
-- since: 15
CREATE TABLE t (id int);
INSERT INTO t VALUES (1);
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM t;
INSERT INTO t VALUES (2);
