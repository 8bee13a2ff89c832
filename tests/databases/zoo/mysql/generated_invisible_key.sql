-- A table whose primary key the server made and hides.
-- since: mysql 8.0.30
CREATE TABLE t (my_row_id bigint unsigned NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY, n int); INSERT INTO t (n) VALUES (5), (6);
