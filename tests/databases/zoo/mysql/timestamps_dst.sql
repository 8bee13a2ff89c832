-- Times in the hour that a change of the clocks repeats.
-- since: mariadb 10, mysql 8.0
SET time_zone = '+00:00';
CREATE TABLE t (id int PRIMARY KEY, ts timestamp NULL);
INSERT INTO t VALUES (1, '2026-10-25 00:30:00'), (2, '2026-10-25 01:30:00'), (3, '1970-01-01 00:00:01');
