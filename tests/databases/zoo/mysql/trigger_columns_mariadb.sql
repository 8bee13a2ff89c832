-- Triggers for UPDATE OF columns and for several events at once.
-- since: mariadb 11.8
CREATE TABLE t (id int PRIMARY KEY, n int, m int); CREATE TABLE log (what int);
CREATE TRIGGER a BEFORE UPDATE OF n ON t FOR EACH ROW SET NEW.m = 1;
