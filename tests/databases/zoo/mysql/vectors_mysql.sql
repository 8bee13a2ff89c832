-- VECTOR columns.
-- since: mysql 9.0
CREATE TABLE t (id int PRIMARY KEY, v vector(3)); INSERT INTO t VALUES (1, STRING_TO_VECTOR('[1,2.5,-0.1]'));
