-- A foreign key into another database.
-- since: mariadb 10, mysql 8.0
-- admin:
CREATE TABLE zoo_elsewhere.p (id int PRIMARY KEY); INSERT INTO zoo_elsewhere.p VALUES (1);
CREATE TABLE c (p int, CONSTRAINT fk FOREIGN KEY (p) REFERENCES zoo_elsewhere.p (id)); INSERT INTO c VALUES (1);
