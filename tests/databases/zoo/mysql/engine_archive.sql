-- ARCHIVE and BLACKHOLE, as plugins.
-- since: mariadb 10
-- server: --plugin-load-add=ha_archive --plugin-load-add=ha_blackhole
CREATE TABLE a (id int, n text) ENGINE=ARCHIVE;
CREATE TABLE b (id int) ENGINE=BLACKHOLE;
INSERT INTO a VALUES (1, 'x');
