-- Aggregates: plain, moving, ordered-set, hypothetical, parallel, VARIADIC, with a sort operator.
-- since: 15
CREATE FUNCTION add(a int8, b int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT coalesce(a, 0) + coalesce(b, 0)';
CREATE FUNCTION sub(a int8, b int) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT a - b';
CREATE FUNCTION both(a int8, b int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE AGGREGATE total(int) (SFUNC = add, STYPE = int8, INITCOND = '0', COMBINEFUNC = both, PARALLEL = SAFE, MSFUNC = add, MINVFUNC = sub, MSTYPE = int8, MINITCOND = '0');
CREATE FUNCTION last(anyarray, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $2';
CREATE AGGREGATE middle(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA, FINALFUNC_MODIFY = READ_WRITE);
CREATE AGGREGATE my_rank(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi, STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);
CREATE AGGREGATE least_of(int) (SFUNC = int4smaller, STYPE = int4, SORTOP = <);
CREATE AGGREGATE everything(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
COMMENT ON AGGREGATE total(int) IS 'sum';
CREATE VIEW uses AS SELECT total(n) FROM (VALUES (1), (2)) v (n);
