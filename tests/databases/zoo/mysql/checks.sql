-- CHECKs of columns and tables, with names, quotes and backslashes in them.
-- since: mariadb 10.2, mysql 8.0
CREATE TABLE t (a int CHECK (a > 0), b varchar(20) CHECK (b <> 'it''s \\'), CONSTRAINT `odd ``c` CHECK (a < 100 OR b REGEXP '^[a-z\\.]+$'));
INSERT INTO t VALUES (1, 'x'), (NULL, NULL);
