-- An index on an expression whose function calls another one without its schema.
-- since: 15
CREATE FUNCTION inner_one(a text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN lower(a); END $$;
CREATE FUNCTION outer_one(a text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN inner_one(a); END $$;
CREATE TABLE t (id int PRIMARY KEY, name text);
INSERT INTO t VALUES (1, 'Zoë'), (2, 'B');
CREATE INDEX t_made ON t (outer_one(name));
