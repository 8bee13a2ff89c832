-- A window function in C, which only a superuser may make; the tenant may call it.
-- since: 15
-- admin:
CREATE FUNCTION public.my_row_number() RETURNS int8 LANGUAGE internal WINDOW IMMUTABLE STRICT AS 'window_row_number';
