-- A server with a binary log that does not trust who makes functions (error 1419).
-- since: mariadb 10, mysql 8.0
-- server: --log-bin=binlog --server-id=1
CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
-- admin:
CREATE DEFINER=owner@'127.0.0.1' TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.n = 5;
CREATE DEFINER=owner@'127.0.0.1' FUNCTION f() RETURNS int DETERMINISTIC RETURN 1;
