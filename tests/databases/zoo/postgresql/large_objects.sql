-- Large objects with comments, grants and another owner; columns that refer to them.
-- since: 15
SELECT lo_from_bytea(900001, '\x00ff5c0a'), lo_from_bytea(900002, decode(repeat('ab', 5000), 'hex')), lo_create(900003);
COMMENT ON LARGE OBJECT 900001 IS 'lo';
CREATE TABLE t (id int, picture oid);
INSERT INTO t VALUES (1, 900001);
