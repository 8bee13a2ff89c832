-- Triggers: every time and event, several per event in an order of their own, odd names and bodies.
-- since: mariadb 10.2, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE log (id int AUTO_INCREMENT PRIMARY KEY, what varchar(60));
CREATE TRIGGER z BEFORE INSERT ON t FOR EACH ROW SET NEW.n = 1;
CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW FOLLOWS z SET NEW.n = NEW.n * 10;
CREATE TRIGGER m BEFORE INSERT ON t FOR EACH ROW PRECEDES a SET NEW.n = NEW.n + 1;
CREATE TRIGGER `odd ``t -- ;` AFTER UPDATE ON t FOR EACH ROW INSERT INTO log (what) VALUES ('it''s \\ ;; DELIMITER');
DELIMITER //
CREATE TRIGGER d BEFORE DELETE ON t FOR EACH ROW BEGIN
  -- a comment; with 'quotes
  DECLARE x int DEFAULT 1;
  IF OLD.id > 100 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF;
  INSERT INTO log (what) VALUES ('d');
END//
DELIMITER ;
INSERT INTO t (id) VALUES (1), (2); UPDATE t SET n = 5 WHERE id = 2;
