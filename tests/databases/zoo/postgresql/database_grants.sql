-- GRANTs on the database itself.
-- since: 15
CREATE TABLE t (id int);
GRANT CONNECT, TEMPORARY ON DATABASE zoo TO reader;
