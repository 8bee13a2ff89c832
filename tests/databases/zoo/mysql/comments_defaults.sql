-- Comments and defaults with quotes, newlines and backslashes; default expressions; ON UPDATE.
-- since: mariadb 10.2, mysql 8.0.13
CREATE TABLE t (id int PRIMARY KEY COMMENT 'it''s "a" \\ \n line; -- x', a varchar(50) DEFAULT 'it''s \\ "q" \n', b text DEFAULT ('x'), c int DEFAULT (1 + 2), d varchar(36) DEFAULT (UUID()), e datetime DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, f varchar(5) DEFAULT '', g varchar(5) DEFAULT NULL, h bit(3) DEFAULT b'101', i varbinary(5) DEFAULT 0x00ff) COMMENT='*/ it''s; DROP TABLE t; /* ';
INSERT INTO t (id) VALUES (1);
