-- Views whose table, column or function is gone, and one over such a view.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int, gone int); CREATE TABLE u (id int);
CREATE VIEW a AS SELECT gone FROM t; CREATE VIEW b AS SELECT * FROM u; CREATE VIEW c AS SELECT * FROM b; CREATE VIEW fine AS SELECT id FROM t;
ALTER TABLE t DROP gone; DROP TABLE u; INSERT INTO t VALUES (1);
