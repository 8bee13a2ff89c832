-- A comment and settings of the database itself, and of a role in it.
-- since: 15
-- admin:
GRANT CREATE ON DATABASE zoo TO owner;
-- owner:
COMMENT ON DATABASE zoo IS 'the shop';
ALTER DATABASE zoo SET timezone = 'Europe/Berlin';
ALTER DATABASE zoo SET search_path = app, public;
CREATE SCHEMA app;
CREATE TABLE app.t (id int);
-- admin:
ALTER ROLE owner IN DATABASE zoo SET work_mem = '5MB';
-- target:
GRANT CREATE ON DATABASE zoo_copy TO owner;
