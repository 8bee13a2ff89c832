-- MERGE over two tables, one of which sorts later.
-- since: mariadb 10, mysql 8.0
CREATE TABLE a (id int, KEY (id)) ENGINE=MyISAM; CREATE TABLE z LIKE a;
CREATE TABLE m (id int, KEY (id)) ENGINE=MERGE UNION=(a, z) INSERT_METHOD=LAST;
INSERT INTO a VALUES (1); INSERT INTO z VALUES (2);
