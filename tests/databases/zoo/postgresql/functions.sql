-- Functions and procedures: overloaded, defaults, VARIADIC, OUT, TABLE, SET, COST, polymorphic, window, SECURITY DEFINER.
-- since: 15
CREATE FUNCTION f(a int DEFAULT 1 + 1, VARIADIC b text[] DEFAULT '{x}') RETURNS text LANGUAGE sql COST 5 PARALLEL SAFE AS 'SELECT $1::text';
CREATE FUNCTION f(a text, OUT b int, OUT "c d" text) RETURNS record LANGUAGE plpgsql STABLE STRICT SET work_mem = '8MB' SET search_path = public, "$user" AS $body$ BEGIN b := 1; "c d" := $$in$$; END $body$;
CREATE FUNCTION rows_of(n int) RETURNS TABLE (id int, name text) LANGUAGE sql ROWS 5 AS 'SELECT g, g::text FROM generate_series(1, n) g';
CREATE FUNCTION any_of(anyelement, anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE PROCEDURE p(INOUT a int, IN b text DEFAULT 'z;') LANGUAGE plpgsql AS $$ BEGIN a := a + 1; COMMIT; END $$;
CREATE FUNCTION "odd ""name"("select" int) RETURNS int LANGUAGE plpgsql AS $_$ BEGIN
  -- \! a backslash; and 'quotes
  RETURN "select"; END $_$;
CREATE FUNCTION late(x int) RETURNS int LANGUAGE sql AS 'SELECT x';
COMMENT ON FUNCTION f(text) IS 'one of two'; COMMENT ON PROCEDURE p IS 'proc';
