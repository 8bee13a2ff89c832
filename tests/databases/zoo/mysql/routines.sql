-- Routines: parameters of every kind, character sets, comments, security, cursors, handlers, labels, SQL in strings.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, name varchar(20)); INSERT INTO t VALUES (1, 'x');
DELIMITER //
CREATE PROCEDURE `odd ``p`(IN a int, OUT b varchar(20) CHARACTER SET latin1, INOUT c json) SQL SECURITY INVOKER READS SQL DATA COMMENT 'it''s \\ ; -- x' BEGIN
  DECLARE done int DEFAULT 0; DECLARE k CURSOR FOR SELECT name FROM t; DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;
  again: LOOP LEAVE again; END LOOP;
  SET b = ';; DELIMITER ; -- Dump completed'; /* a comment */ # another
  SELECT 'ünïcode 😀 \' "', "double", `name` FROM t;
END//
CREATE FUNCTION f(a varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin) RETURNS enum('a', 'it''s') CHARACTER SET utf8mb4 DETERMINISTIC NO SQL RETURN 'a'//
CREATE FUNCTION `f;//`() RETURNS text DETERMINISTIC RETURN '
-- Dump completed on 2020-01-01
DELIMITER ;;
'//
DELIMITER ;
