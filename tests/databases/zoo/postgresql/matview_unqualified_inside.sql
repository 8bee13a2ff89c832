-- A materialized view over a function that reads a table without its schema, and has data.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t VALUES (1), (2);
CREATE FUNCTION how_many() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT count(*) FROM t); END $$;
CREATE MATERIALIZED VIEW counted AS SELECT how_many() AS n;
