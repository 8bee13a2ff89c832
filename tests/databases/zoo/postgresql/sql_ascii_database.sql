-- A SQL_ASCII database with bytes that are no UTF-8, in rows, in a comment and in a name.
-- since: 15
-- database: ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0
CREATE TABLE t (id int, name text);
INSERT INTO t VALUES (1, E'caf\xe9 \xff'), (2, 'plain'), (3, 'Zoë');
