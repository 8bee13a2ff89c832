-- Aria, transactional and not, of every row format.
-- since: mariadb 10
CREATE TABLE a (id int, n varchar(20)) ENGINE=Aria TRANSACTIONAL=1 PAGE_CHECKSUM=1;
CREATE TABLE b (id int, n varchar(20)) ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC;
INSERT INTO a VALUES (1, 'x'); INSERT INTO b VALUES (1, 'x');
