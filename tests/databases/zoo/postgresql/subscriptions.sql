-- A subscription of an administrator in the tenant's database.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t VALUES (1);
-- admin:
CREATE SUBSCRIPTION from_afar CONNECTION 'dbname=nowhere password=secret' PUBLICATION p WITH (connect = false, slot_name = NONE);
