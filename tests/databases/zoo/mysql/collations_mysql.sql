-- Collations that MySQL has alone, in tables, columns, expressions and routines.
-- since: mysql 8.0
CREATE TABLE t (n varchar(20) COLLATE utf8mb4_0900_ai_ci, m varchar(20) COLLATE utf8mb4_ja_0900_as_cs, v varchar(20) AS (n COLLATE utf8mb4_0900_as_cs)) COLLATE utf8mb4_de_pb_0900_as_cs; INSERT INTO t (n, m) VALUES ('ä', 'は');
CREATE VIEW w AS SELECT n COLLATE utf8mb4_0900_bin AS c FROM t; CREATE FUNCTION f(a varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_ci) RETURNS int DETERMINISTIC RETURN 1;
