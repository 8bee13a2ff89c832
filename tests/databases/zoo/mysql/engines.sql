-- Tables of every storage engine that every server has.
-- since: mariadb 10, mysql 8.0
CREATE TABLE a (id int PRIMARY KEY, n text) ENGINE=InnoDB;
CREATE TABLE b (id int PRIMARY KEY, n text, FULLTEXT (n)) ENGINE=MyISAM DELAY_KEY_WRITE=1 CHECKSUM=1;
CREATE TABLE c (id int PRIMARY KEY, n varchar(50)) ENGINE=MEMORY MAX_ROWS=100;
CREATE TABLE d (id int NOT NULL, n varchar(50) NOT NULL) ENGINE=CSV;
INSERT INTO a VALUES (1, 'x'); INSERT INTO b VALUES (1, 'x'); INSERT INTO c VALUES (1, 'x'); INSERT INTO d VALUES (1, 'a,"b"\n');
