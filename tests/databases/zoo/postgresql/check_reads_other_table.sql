-- A CHECK that reads a table whose rows come later by name: PostgreSQL does not forbid it.
-- since: 15
CREATE TABLE z_limits (most int);
INSERT INTO z_limits VALUES (10);
CREATE FUNCTION allowed(a int) RETURNS bool LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM public.z_limits WHERE most > a) $$;
CREATE TABLE a_things (id int PRIMARY KEY CHECK (allowed(id)));
INSERT INTO a_things VALUES (1), (2);
