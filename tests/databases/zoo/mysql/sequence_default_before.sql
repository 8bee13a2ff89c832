-- The same with a sequence that sorts after its table, and in backquotes with the database's name.
-- since: mariadb 10.3
CREATE SEQUENCE z_ticket START 100;
CREATE TABLE a (id int DEFAULT NEXTVAL(z_ticket) PRIMARY KEY, n int);
INSERT INTO a (n) VALUES (1), (2);
