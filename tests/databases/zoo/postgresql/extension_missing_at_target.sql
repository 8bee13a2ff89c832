-- An untrusted extension that the target does not have: it must be refused before anything changes, with its name.
-- since: 15
-- admin:
CREATE EXTENSION pageinspect;
-- owner:
CREATE TABLE t (id int);
INSERT INTO t VALUES (1);
