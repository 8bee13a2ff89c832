-- Range and multirange types with a subdiff, a canonical function's default, a collation, and names of their own.
-- since: 15
CREATE FUNCTION time_diff(a time, b time) RETURNS float8 LANGUAGE sql STRICT IMMUTABLE AS 'SELECT EXTRACT(EPOCH FROM (a - b))::float8';
CREATE TYPE timerange AS RANGE (subtype = time, subtype_diff = time_diff);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C", multirange_type_name = texts);
CREATE TABLE t (r timerange, m timemultirange, x textrange, y texts, z int8multirange);
INSERT INTO t VALUES ('[08:00,09:00)', '{[08:00,09:00),[10:00,11:00]}', '[a,b]', '{[a,b],[d,e)}', '{[1,3),[7,9)}');
CREATE INDEX i ON t USING gist (r);
