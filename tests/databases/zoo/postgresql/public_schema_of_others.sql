-- The schema public belongs to the role that owns the database (pg_database_owner), as it is by default.
-- since: 15
-- admin:
ALTER SCHEMA public OWNER TO pg_database_owner;
-- owner:
CREATE TABLE t (id int);
INSERT INTO t VALUES (1);
-- target:
ALTER SCHEMA public OWNER TO pg_database_owner;
