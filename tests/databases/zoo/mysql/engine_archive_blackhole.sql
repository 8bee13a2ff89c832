-- ARCHIVE and BLACKHOLE, which MySQL has built in.
-- since: mysql 8.0
CREATE TABLE a (id int, n text) ENGINE=ARCHIVE;
CREATE TABLE b (id int) ENGINE=BLACKHOLE;
INSERT INTO a VALUES (1, 'x');
