-- Geometry of every kind, with SRID and spatial keys.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, g geometry, p point NOT NULL, l linestring, y polygon, mp multipoint, ml multilinestring, my multipolygon, gc geometrycollection, SPATIAL KEY (p)) ENGINE=InnoDB;
INSERT INTO t VALUES (1, ST_GeomFromText('POINT(1.5 -2)', 0), ST_GeomFromText('POINT(1 2)'), ST_GeomFromText('LINESTRING(0 0, 1 1)'), ST_GeomFromText('POLYGON((0 0, 9 0, 9 9, 0 0))'), ST_GeomFromText('MULTIPOINT(1 1, 2 2)'), NULL, NULL, ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))'));
