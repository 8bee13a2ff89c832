-- JSON with its checks, large numbers and unicode.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, j json, k json NOT NULL);
INSERT INTO t VALUES (1, '{"a": [1, null, 1.5e300, "😀\\u00e9\\n\\""]}', '[]'), (2, NULL, '123456789012345678');
