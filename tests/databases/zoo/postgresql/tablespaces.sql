-- The default table space named on purpose.
-- since: 15
SET default_tablespace = pg_default;
CREATE TABLE t (id int PRIMARY KEY) TABLESPACE pg_default;
INSERT INTO t VALUES (1);
