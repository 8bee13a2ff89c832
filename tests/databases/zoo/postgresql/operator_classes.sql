-- Operator families and classes, which only a superuser may make, and an index and table of the tenant that use one.
-- since: 15
-- admin:
CREATE FUNCTION public.abs_cmp(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) - abs($2)';
CREATE OPERATOR FAMILY public.by_size USING btree;
CREATE OPERATOR CLASS public.abs_ops FOR TYPE int USING btree FAMILY public.by_size AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 public.abs_cmp(int, int);
-- owner:
CREATE TABLE t (n int);
CREATE INDEX i ON t (n abs_ops);
INSERT INTO t VALUES (1), (5);
-- target:
CREATE FUNCTION public.abs_cmp(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) - abs($2)';
CREATE OPERATOR FAMILY public.by_size USING btree;
CREATE OPERATOR CLASS public.abs_ops FOR TYPE int USING btree FAMILY public.by_size AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 public.abs_cmp(int, int);
