-- A publication that an administrator made (a migration or a replica is prepared) with a table of the tenant.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t VALUES (1);
-- admin:
CREATE PUBLICATION replica FOR TABLE public.t;
