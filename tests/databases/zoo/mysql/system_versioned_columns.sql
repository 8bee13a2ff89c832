-- System-versioned tables with period columns of their own, columns without versioning, and partitions for history.
-- since: mariadb 10.3
CREATE TABLE t (id int PRIMARY KEY, n int, loose int WITHOUT SYSTEM VERSIONING, a timestamp(6) GENERATED ALWAYS AS ROW START INVISIBLE, z timestamp(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (a, z)) WITH SYSTEM VERSIONING;
INSERT INTO t (id, n) VALUES (1, 1); UPDATE t SET n = 2;
CREATE TABLE p (id int) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME LIMIT 1000 PARTITIONS 3;
INSERT INTO p VALUES (1); DELETE FROM p;
