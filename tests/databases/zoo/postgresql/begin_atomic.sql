-- Functions in standard SQL, with CASE and words that look like the ends of blocks.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY, n int);
CREATE FUNCTION f(a int) RETURNS int BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 1 ELSE 2 END; END;
CREATE PROCEDURE p(a int) BEGIN ATOMIC INSERT INTO t VALUES (a, CASE a WHEN 1 THEN 2 END); DELETE FROM t WHERE id < 0; END;
CREATE FUNCTION one(a int) RETURNS int RETURN a + 1;
