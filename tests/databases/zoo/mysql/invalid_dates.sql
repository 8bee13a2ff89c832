-- Dates that are none (31 February), which came in under ALLOW_INVALID_DATES.
-- since: mariadb 10, mysql 8.0
SET sql_mode = 'ALLOW_INVALID_DATES';
CREATE TABLE t (id int PRIMARY KEY, d date, dt datetime);
INSERT INTO t VALUES (1, '2026-02-31', '2026-04-31 10:00:00');
