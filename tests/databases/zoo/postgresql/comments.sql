-- Comments on schemas, tables, columns, constraints, sequences, types; with quotes, newlines, backslashes, SQL in them.
-- since: 15
-- admin:
GRANT CREATE ON DATABASE zoo TO owner;
-- owner:
CREATE SCHEMA s;
COMMENT ON SCHEMA s IS 'it''s; DROP TABLE t; -- \! id
$$second$$ line';
COMMENT ON SCHEMA public IS 'ours now';
CREATE TABLE s.t (id serial PRIMARY KEY, name text, CONSTRAINT c CHECK (id > 0));
COMMENT ON TABLE s.t IS E'tab\tand \\\\ back'; COMMENT ON COLUMN s.t.name IS '😀'; COMMENT ON CONSTRAINT c ON s.t IS 'con'; COMMENT ON SEQUENCE s.t_id_seq IS 'seq';
INSERT INTO s.t (name) VALUES ('x');
-- target:
GRANT CREATE ON DATABASE zoo_copy TO owner;
