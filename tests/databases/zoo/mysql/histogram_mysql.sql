-- Histograms and a resource: statistics that a dump does not hold.
-- since: mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2);
ANALYZE TABLE t UPDATE HISTOGRAM ON n WITH 4 BUCKETS;
