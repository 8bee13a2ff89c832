-- Identity columns of partitioned tables.
-- since: 17
CREATE TABLE p (id int GENERATED ALWAYS AS IDENTITY, n int) PARTITION BY RANGE (n);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
INSERT INTO p (n) VALUES (1), (2);
