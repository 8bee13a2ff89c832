-- A foreign key to a table that is gone.
-- since: mariadb 10, mysql 8.0
CREATE TABLE keep (id int PRIMARY KEY); INSERT INTO keep VALUES (1);
SET FOREIGN_KEY_CHECKS = 0;
CREATE TABLE c (id int, p int, CONSTRAINT fk FOREIGN KEY (p) REFERENCES missing (id));
INSERT INTO c VALUES (1, NULL);
