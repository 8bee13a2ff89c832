-- A foreign key from another database into this one.
-- since: mariadb 10, mysql 8.0
CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1);
-- admin:
CREATE TABLE zoo_elsewhere.c (p int, CONSTRAINT fk FOREIGN KEY (p) REFERENCES zoo_live.p (id)); INSERT INTO zoo_elsewhere.c VALUES (1);
