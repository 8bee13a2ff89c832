-- Ordered-set and hypothetical-set aggregates over a state type of the tenant's.
-- since: 15
CREATE FUNCTION gather(float8[], float8) RETURNS float8[] LANGUAGE sql IMMUTABLE AS 'SELECT $1 || $2';
CREATE FUNCTION pick(float8[], float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $1[1 + ($2 * cardinality($1))::int]';
CREATE AGGREGATE middle(float8 ORDER BY float8) (SFUNC = gather, STYPE = float8[], INITCOND = '{}', FINALFUNC = pick, FINALFUNC_MODIFY = READ_WRITE);
CREATE FUNCTION place(float8[], float8) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT count(*)::int FROM unnest($1) u WHERE u < $2';
CREATE AGGREGATE my_rank(float8 ORDER BY float8) (SFUNC = gather, STYPE = float8[], INITCOND = '{}', FINALFUNC = place, HYPOTHETICAL);
