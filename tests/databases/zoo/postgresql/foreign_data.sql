-- Foreign servers, user mappings and tables; a wrapper without a handler.
-- since: 15
-- admin:
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO owner;
-- owner:
CREATE SERVER far TYPE 'x' VERSION '1.2' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'example.test', dbname 'it''s');
CREATE USER MAPPING FOR owner SERVER far OPTIONS (user 'u', password 'p''w');
CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'anyone');
CREATE FOREIGN TABLE remote (id int OPTIONS (column_name 'ID') NOT NULL, name text DEFAULT 'x', CHECK (id > 0)) SERVER far OPTIONS (table_name 't');
CREATE FOREIGN TABLE remote_part () INHERITS (remote) SERVER far;
CREATE TABLE local (id int PRIMARY KEY);
INSERT INTO local VALUES (1);
COMMENT ON SERVER far IS 'srv'; COMMENT ON FOREIGN TABLE remote IS 'ft';
-- target:
CREATE EXTENSION postgres_fdw;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO owner;
