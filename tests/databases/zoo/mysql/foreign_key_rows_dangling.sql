-- Rows that violate their foreign key: they came in while checks were off.
-- since: mariadb 10, mysql 8.0
CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int, FOREIGN KEY (p) REFERENCES p (id));
SET FOREIGN_KEY_CHECKS = 0; INSERT INTO c VALUES (42);
