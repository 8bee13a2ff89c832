-- Publications of all tables and of a schema: only a superuser may make them.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t VALUES (1);
-- admin:
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true);
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public;
