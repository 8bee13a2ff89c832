-- A base type with input and output functions, and a shell type: only a superuser may make them.
-- since: 15
-- admin:
CREATE TYPE public.my_int;
CREATE FUNCTION public.my_in(cstring) RETURNS public.my_int LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION public.my_out(public.my_int) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE public.my_int (INPUT = public.my_in, OUTPUT = public.my_out, LIKE = int4, CATEGORY = 'N', DELIMITER = ';');
CREATE TYPE public.shell;
-- owner:
CREATE TABLE t (n my_int, l my_int[]);
INSERT INTO t VALUES ('5', '{5;6}');
