-- CHECKs, a domain and a default whose functions call others without their schema.
-- since: 15
CREATE FUNCTION inner_one(a text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN length(a) > 1; END $$;
CREATE FUNCTION outer_one(a text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN inner_one(a); END $$;
CREATE DOMAIN long_text AS text CHECK (outer_one(VALUE));
CREATE TABLE t (id int PRIMARY KEY, name text CHECK (outer_one(name)), more long_text DEFAULT 'abc');
INSERT INTO t VALUES (1, 'Zoë', 'more');
