-- A foreign key that is valid in the catalogue and violated by rows (triggers were off): no server can load it back.
-- since: 15
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (p int CONSTRAINT broken REFERENCES p);
-- admin:
SET session_replication_role = replica;
INSERT INTO public.c VALUES (42);
