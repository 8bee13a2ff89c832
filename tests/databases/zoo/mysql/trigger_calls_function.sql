-- A generated column and a trigger that call functions which come later by name.
-- since: mariadb 10, mysql 8.0
CREATE TABLE a (id int PRIMARY KEY, n int); CREATE FUNCTION z_last(a int) RETURNS int DETERMINISTIC RETURN a + 1;
CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.n = z_last(NEW.id); INSERT INTO a (id) VALUES (1);
