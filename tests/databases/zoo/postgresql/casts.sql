-- Casts: by function, assignment and implicit, without function, by input and output.
-- since: 15
CREATE TYPE pair AS (a int, b int);
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE FUNCTION to_int(pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.a';
CREATE CAST (pair AS int) WITH FUNCTION to_int(pair) AS ASSIGNMENT;
CREATE CAST (text AS mood) WITH INOUT AS IMPLICIT;
COMMENT ON CAST (pair AS int) IS 'cast';
CREATE TABLE t (n int DEFAULT ROW(1, 2)::pair::int);
INSERT INTO t DEFAULT VALUES;
