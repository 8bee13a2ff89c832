-- Extensions: trusted ones made by the tenant, in schemas of their own, and objects that use them.
-- since: 15
-- admin:
GRANT CREATE ON DATABASE zoo TO owner;
-- owner:
CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION citext;
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE TABLE t (id int, h ext.hstore, c citext UNIQUE);
INSERT INTO t VALUES (1, 'a=>1', 'Abc');
CREATE INDEX i ON t USING gin (c gin_trgm_ops);
-- target:
GRANT CREATE ON DATABASE zoo_copy TO owner;
