-- The privilege MAINTAIN.
-- since: 17
CREATE TABLE t (id int);
GRANT MAINTAIN ON t TO reader;
