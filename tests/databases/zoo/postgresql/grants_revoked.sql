-- REVOKE of what PUBLIC has by default: a restore must never give it back.
-- since: 15
CREATE FUNCTION secret() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT 'secret'::text $$;
REVOKE EXECUTE ON FUNCTION secret() FROM PUBLIC;
CREATE TYPE mood AS ENUM ('a');
REVOKE USAGE ON TYPE mood FROM PUBLIC;
CREATE TABLE t (id int);
REVOKE DELETE ON t FROM owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
