-- Indexes of partitioned tables: attached ones with names of their own, one invalid for a missing part, unique ones.
-- since: 15
CREATE TABLE p (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX i ON ONLY p (at);
CREATE INDEX own_name ON p1 (at);
ALTER INDEX i ATTACH PARTITION own_name;
CREATE INDEX whole ON p (id);
CREATE INDEX p2_only ON p2 (id, at) WHERE id > 5;
ALTER TABLE p ADD CONSTRAINT u UNIQUE (at, id);
INSERT INTO p VALUES (1, '2025-02-02'), (2, '2026-02-02');
