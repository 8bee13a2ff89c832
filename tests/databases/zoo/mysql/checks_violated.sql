-- A CHECK that rows violate: it was added while checks were off.
-- since: mariadb 10.2
CREATE TABLE t (a int);
INSERT INTO t VALUES (-1);
SET check_constraint_checks = 0;
ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0);
