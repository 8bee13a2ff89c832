-- Zero dates, dates with zeros in them, and defaults of them.
-- since: mariadb 10, mysql 8.0
SET sql_mode = '';
CREATE TABLE t (id int PRIMARY KEY, d date NOT NULL DEFAULT '0000-00-00', dt datetime NOT NULL DEFAULT '0000-00-00 00:00:00', ts timestamp NOT NULL DEFAULT '0000-00-00 00:00:00');
INSERT INTO t VALUES (1, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00'), (2, '2026-02-00', '2026-00-15 00:00:00', '2026-01-01 00:00:00');
