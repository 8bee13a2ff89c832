-- A generated column whose function calls another one without its schema: an empty search_path does not find it.
-- since: 15
CREATE FUNCTION inner_one(a text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN lower(a); END $$;
CREATE FUNCTION outer_one(a text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN inner_one(a) || '!'; END $$;
CREATE TABLE t (id int PRIMARY KEY, name text, made text GENERATED ALWAYS AS (outer_one(name)) STORED);
INSERT INTO t (id, name) VALUES (1, 'Zoë'), (2, 'B');
