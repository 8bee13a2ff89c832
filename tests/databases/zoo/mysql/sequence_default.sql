-- A column whose default is the next value of a sequence.
-- since: mariadb 10.3
CREATE SEQUENCE ticket START 100;
CREATE TABLE t (id int DEFAULT NEXTVAL(ticket) PRIMARY KEY, n int);
INSERT INTO t (n) VALUES (1), (2);
