-- A view of 300 columns with long names: its stand-in is a table of as many.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int);
SET SESSION group_concat_max_len = 1000000;
SET @columns = (WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300) SELECT GROUP_CONCAT('id + ', n, ' AS `a column with a rather long name that is number ', n, '`') FROM n);
SET @sql = CONCAT('CREATE VIEW v AS SELECT ', @columns, ' FROM t'); PREPARE s FROM @sql; EXECUTE s;
