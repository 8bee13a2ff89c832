-- Temporal keys: WITHOUT OVERLAPS and PERIOD.
-- since: 18
-- admin:
CREATE EXTENSION btree_gist;
-- owner:
CREATE TABLE p (id int, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
CREATE TABLE c (p int, valid daterange, FOREIGN KEY (p, PERIOD valid) REFERENCES p (id, PERIOD valid));
INSERT INTO p VALUES (1, '[2025-01-01,2026-01-01)');
INSERT INTO c VALUES (1, '[2025-02-01,2025-03-01)');
-- target:
CREATE EXTENSION btree_gist;
