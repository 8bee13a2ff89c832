-- Foreign keys: a cycle, to itself, of every action, on several columns, to a unique key.
-- since: mariadb 10, mysql 8.0
CREATE TABLE b (id int PRIMARY KEY, a int);
CREATE TABLE a (id int PRIMARY KEY, b int, up int, CONSTRAINT `odd ``fk` FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE ON UPDATE SET NULL, FOREIGN KEY (up) REFERENCES a (id));
ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a (id);
CREATE TABLE p (x int, y int, UNIQUE KEY (x, y)); CREATE TABLE c (x int, y int, FOREIGN KEY (x, y) REFERENCES p (x, y) ON UPDATE CASCADE);
SET FOREIGN_KEY_CHECKS = 0;
INSERT INTO a VALUES (1, 1, 2), (2, NULL, 1); INSERT INTO b VALUES (1, 1); INSERT INTO p VALUES (1, 2); INSERT INTO c VALUES (1, 2);
