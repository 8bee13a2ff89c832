-- Hash partitions by an enum: the hash goes by numbers that a restore changes.
-- since: 15
CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f');
CREATE TABLE p (m mood, n int) PARTITION BY HASH (m);
CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE p2 PARTITION OF p FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO p SELECT m, g FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 4) g;
