-- VECTOR columns with an index.
-- since: mariadb 11.7
CREATE TABLE t (id int PRIMARY KEY, v vector(3) NOT NULL, VECTOR INDEX (v)); INSERT INTO t VALUES (1, VEC_FromText('[1,2.5,-0.1]'));
