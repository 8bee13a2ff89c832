-- Stored generated columns, one with a function that is called without its schema.
-- since: 15
CREATE FUNCTION slug(a text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(replace(a, ' ', '-')) $$;
CREATE TABLE t (id int PRIMARY KEY, name text, upper text GENERATED ALWAYS AS (upper(name)) STORED, slug text GENERATED ALWAYS AS (slug(name)) STORED);
INSERT INTO t (id, name) VALUES (1, 'Zoë Ä'), (2, NULL);
