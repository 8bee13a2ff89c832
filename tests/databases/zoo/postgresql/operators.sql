-- Operators with commutators, negators, estimators; operator families and classes with functions and a storage type.
-- since: 15
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION pair_less(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ($1.a, $1.b) < ($2.a, $2.b)';
CREATE FUNCTION pair_more(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ($1.a, $1.b) > ($2.a, $2.b)';
CREATE OPERATOR <<< (FUNCTION = pair_less, LEFTARG = pair, RIGHTARG = pair, COMMUTATOR = OPERATOR(public.>>>), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR >>> (FUNCTION = pair_more, LEFTARG = pair, RIGHTARG = pair, COMMUTATOR = OPERATOR(public.<<<));
CREATE FUNCTION nothing(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT -$1';
CREATE OPERATOR @#@ (FUNCTION = nothing, RIGHTARG = int);
COMMENT ON OPERATOR <<< (pair, pair) IS 'less';
CREATE VIEW v AS SELECT @#@ 5 AS n;
