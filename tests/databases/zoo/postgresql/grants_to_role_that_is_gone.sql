-- A grant to a role that the target may not have; here it is dropped after the backup.
-- since: 15
CREATE TABLE t (id int);
INSERT INTO t VALUES (1);
GRANT SELECT ON t TO pg_monitor;
