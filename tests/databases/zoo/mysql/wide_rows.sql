-- A table of 1,000 columns and one with text that looks like the dump's own lines.
-- since: mariadb 10, mysql 8.0
SET SESSION group_concat_max_len = 1000000;
SET @c = (WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT GROUP_CONCAT('c', n, ' tinyint') FROM n);
SET @sql = CONCAT('CREATE TABLE w (', @c, ')'); PREPARE s FROM @sql; EXECUTE s;
INSERT INTO w (c1, c1000) VALUES (1, 2);
CREATE TABLE t (id int PRIMARY KEY, n text);
INSERT INTO t VALUES (1, '\n-- Dump completed on 2020-01-01\n'), (2, '\n/*!50001 CREATE VIEW x AS SELECT 1 */;\nDELIMITER ;;\n'), (3, '/*M!999999\\- enable the sandbox mode */'), (4, 'utf8mb4_0900_ai_ci');
