-- A UUID in binary as the key, with foreign keys on it.
-- since: mariadb 10, mysql 8.0
CREATE TABLE p (id binary(16) PRIMARY KEY);
CREATE TABLE c (p binary(16), FOREIGN KEY (p) REFERENCES p (id));
INSERT INTO p VALUES (0x00000000000000000000000000000000), (0xff5c0a27000000000000000000000020); INSERT INTO c SELECT id FROM p;
