-- Publications of tables, with columns and row filters.
-- since: 15
-- admin:
GRANT CREATE ON DATABASE zoo TO owner;
-- owner:
CREATE TABLE t (id int PRIMARY KEY, a int, b text);
CREATE TABLE u (id int PRIMARY KEY);
CREATE PUBLICATION of_some FOR TABLE t (id, a) WHERE (id > 5), u WITH (publish = 'insert, delete');
CREATE PUBLICATION none;
COMMENT ON PUBLICATION of_some IS 'pub';
INSERT INTO t VALUES (1, 1, 'x');
-- target:
GRANT CREATE ON DATABASE zoo_copy TO owner;
