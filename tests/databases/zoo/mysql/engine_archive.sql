-- ARCHIVE and BLACKHOLE, as plugins.
-- since: mariadb 10
-- admin:
INSTALL SONAME IF NOT EXISTS 'ha_archive'; INSTALL SONAME IF NOT EXISTS 'ha_blackhole';
-- owner:
CREATE TABLE a (id int, n text) ENGINE=ARCHIVE;
CREATE TABLE b (id int) ENGINE=BLACKHOLE;
INSERT INTO a VALUES (1, 'x');
