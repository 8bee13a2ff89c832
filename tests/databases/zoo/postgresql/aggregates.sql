-- Aggregates: plain, moving, ordered-set, hypothetical, parallel, VARIADIC, with a sort operator.
-- since: 15
CREATE FUNCTION add(a int8, b int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT coalesce(a, 0) + coalesce(b, 0)';
CREATE FUNCTION sub(a int8, b int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT a - b';
CREATE FUNCTION sum_of(a int8, b int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE AGGREGATE total(int) (SFUNC = add, STYPE = int8, INITCOND = '0', COMBINEFUNC = sum_of, PARALLEL = SAFE, MSFUNC = add, MINVFUNC = sub, MSTYPE = int8, MINITCOND = '0');
CREATE AGGREGATE least_of(int) (SFUNC = int4smaller, STYPE = int4, SORTOP = <);
CREATE AGGREGATE everything(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
COMMENT ON AGGREGATE total(int) IS 'sum';
CREATE VIEW uses AS SELECT total(n) FROM (VALUES (1), (2)) v (n);
