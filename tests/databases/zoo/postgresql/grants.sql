-- Grants to other roles on tables, columns, sequences, schemas, types, functions, languages; with grant option.
-- since: 15
-- admin:
GRANT CREATE ON DATABASE zoo TO owner;
-- owner:
CREATE SCHEMA s;
CREATE TABLE s.t (id serial, name text, secret text);
GRANT USAGE ON SCHEMA s TO reader;
GRANT SELECT (id, name), UPDATE (name) ON s.t TO reader;
GRANT SELECT, INSERT ON s.t TO writer WITH GRANT OPTION;
GRANT USAGE ON SEQUENCE s.t_id_seq TO writer;
CREATE TYPE s.mood AS ENUM ('a');
GRANT USAGE ON TYPE s.mood TO reader;
CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
GRANT EXECUTE ON FUNCTION s.f() TO reader;
GRANT SELECT ON s.t TO PUBLIC;
-- target:
GRANT CREATE ON DATABASE zoo_copy TO owner;
