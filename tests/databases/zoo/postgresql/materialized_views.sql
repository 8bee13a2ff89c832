-- Materialized views: on each other, with indexes, WITH NO DATA, cluster, options, stale data.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY, n int);
INSERT INTO t SELECT g, g % 5 FROM generate_series(1, 50) g;
CREATE MATERIALIZED VIEW z_first AS SELECT n, count(*) AS c FROM t GROUP BY n;
CREATE MATERIALIZED VIEW a_second WITH (fillfactor = 80) AS SELECT sum(c) AS s FROM z_first;
CREATE UNIQUE INDEX i ON z_first (n);
ALTER MATERIALIZED VIEW z_first CLUSTER ON i;
CREATE MATERIALIZED VIEW empty_one AS SELECT * FROM a_second WITH NO DATA;
CREATE VIEW over_it AS SELECT * FROM a_second;
