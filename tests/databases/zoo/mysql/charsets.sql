-- Tables and columns of latin1, utf8mb3, utf16, utf32, ucs2, binary, cp1251, sjis, with characters that only they have.
-- since: mariadb 10, mysql 8.0
CREATE TABLE a (n varchar(50), m text) CHARACTER SET latin1; INSERT INTO a VALUES ('café €', 'Ÿ');
CREATE TABLE b (n varchar(50)) CHARACTER SET utf8mb3 COLLATE utf8mb3_unicode_ci; INSERT INTO b VALUES ('日本');
CREATE TABLE c (n varchar(50) CHARACTER SET utf16, m varchar(50) CHARACTER SET utf32, u varchar(50) CHARACTER SET ucs2); INSERT INTO c VALUES ('😀', '😀', '日');
CREATE TABLE d (n varchar(50)) CHARACTER SET binary; INSERT INTO d VALUES (0xff00);
CREATE TABLE e (n varchar(50) CHARACTER SET cp1251, s varchar(50) CHARACTER SET sjis, g varchar(50) CHARACTER SET gbk); INSERT INTO e VALUES ('ж', 'ソ表', '縗');
CREATE TABLE f (n varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_swedish_ci, en enum('ä', 'ß') CHARACTER SET latin1 DEFAULT 'ß') COMMENT 'é😀'; INSERT INTO f VALUES ('x', 'ä');
