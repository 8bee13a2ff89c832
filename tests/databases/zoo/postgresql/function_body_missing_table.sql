-- A function in SQL whose body names a table that is gone.
-- since: 15
CREATE TABLE t (id int);
CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t';
DROP TABLE t;
