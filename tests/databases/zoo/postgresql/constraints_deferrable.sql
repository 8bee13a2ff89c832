-- Unique and primary keys that are deferrable, CHECKs NOT VALID, constraints by an index, names with quotes.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n int UNIQUE DEFERRABLE, CONSTRAINT "odd ""name" CHECK (n > 0));
INSERT INTO t VALUES (1, 1), (2, 2);
CREATE TABLE u (id int, n int);
INSERT INTO u VALUES (1, -1);
ALTER TABLE u ADD CONSTRAINT later CHECK (n > 0) NOT VALID;
CREATE UNIQUE INDEX ui ON u (id) INCLUDE (n);
ALTER TABLE u ADD CONSTRAINT by_index PRIMARY KEY USING INDEX ui;
