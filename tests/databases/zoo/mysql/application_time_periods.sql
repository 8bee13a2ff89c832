-- Application-time periods, WITHOUT OVERLAPS.
-- since: mariadb 10.5
CREATE TABLE t (id int, a date, z date, PERIOD FOR valid (a, z), UNIQUE (id, valid WITHOUT OVERLAPS));
INSERT INTO t VALUES (1, '2025-01-01', '2026-01-01'), (1, '2026-01-01', '2027-01-01');
