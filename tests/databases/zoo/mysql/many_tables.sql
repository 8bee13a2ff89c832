-- Two hundred tables.
-- since: mariadb 10
DELIMITER //
BEGIN NOT ATOMIC DECLARE i int DEFAULT 0; WHILE i < 200 DO EXECUTE IMMEDIATE CONCAT('CREATE TABLE t', i, ' (id int)'); SET i = i + 1; END WHILE; END//
DELIMITER ;
