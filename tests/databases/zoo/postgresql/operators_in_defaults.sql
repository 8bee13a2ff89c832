-- Defaults: current times, expressions with casts, arrays, functions of the tenant, strings with backslashes.
-- since: 15
CREATE FUNCTION f(n int = 3) RETURNS int LANGUAGE sql AS 'SELECT n';
CREATE TABLE t (a timestamptz DEFAULT CURRENT_TIMESTAMP, b text DEFAULT E'a\\b''c\n', c int[] DEFAULT ARRAY[1, 2], d int DEFAULT f(4), e text DEFAULT ('x' || CURRENT_USER), g json DEFAULT '{}'::json);
INSERT INTO t (a) VALUES ('2026-01-01');
