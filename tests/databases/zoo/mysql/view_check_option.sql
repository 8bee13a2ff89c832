-- Views WITH CHECK OPTION of both kinds, one over a view that sorts later.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 5);
CREATE VIEW z AS SELECT id, n FROM t WHERE n > 1;
CREATE VIEW a AS SELECT id, n FROM z WHERE n < 10 WITH CASCADED CHECK OPTION;
CREATE VIEW b AS SELECT id, n FROM t WHERE n < 10 WITH LOCAL CHECK OPTION;
