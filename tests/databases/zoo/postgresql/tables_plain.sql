-- Plain tables of common types.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL DEFAULT 'x', at timestamptz, n numeric(20, 5), f float8, r real, j jsonb, b bytea, u uuid, a int[], i interval, net inet, m money, bits bit varying(9), x xml);
INSERT INTO t VALUES (1, 'Zoë 😀 \ '' ', '2026-01-02 03:04:05.678901+02', 12345.67891, 0.1, 1.23456789, '{"a": [1, null]}', '\x00ff5c0a', gen_random_uuid(), '{1,NULL,3}', '1 mon -3 days 04:05:06.7', '10.0.0.0/8', 12.5, B'101', '<a>&amp;</a>');
INSERT INTO t (id, at, f, r) VALUES (2, 'infinity', 'NaN', '-Infinity'), (3, '4713-01-01 00:00:00+00 BC', 1e308, 1e-40);
