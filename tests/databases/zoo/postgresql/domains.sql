-- Domains: over domains, arrays, composites; NOT NULL, several CHECKs, NOT VALID, collation, default, comments.
-- since: 15
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small AS positive DEFAULT 5 NOT NULL CONSTRAINT below CHECK (VALUE < 100);
CREATE DOMAIN list AS int[] CHECK (cardinality(VALUE) < 4);
CREATE DOMAIN sorted AS text COLLATE "C";
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN good_pair AS pair CHECK ((VALUE).a > 0);
CREATE TABLE t (id small, l list, s sorted, p good_pair, d positive[]);
INSERT INTO t VALUES (1, '{1,2}', 'é', '(1,x)', '{1,2}');
ALTER DOMAIN positive ADD CONSTRAINT later CHECK (VALUE <> 13) NOT VALID;
COMMENT ON DOMAIN small IS 'dom'; COMMENT ON CONSTRAINT below ON DOMAIN small IS 'con';
