-- The schema public is empty, all is in another one that an administrator made.
-- since: 15
-- admin:
CREATE SCHEMA app AUTHORIZATION owner;
-- owner:
CREATE TABLE app.t (id int);
INSERT INTO app.t VALUES (1);
-- target:
CREATE SCHEMA app AUTHORIZATION owner;
