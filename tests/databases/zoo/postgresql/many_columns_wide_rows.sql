-- A table of 1,600 columns, and text of 5 MiB in one line with what ends COPY.
-- since: 15
DO $do$ BEGIN EXECUTE 'CREATE TABLE wide (' || (SELECT string_agg('c' || g || ' int2', ', ') FROM generate_series(1, 1600) g) || ')'; END $do$;
INSERT INTO wide (c1, c1600) VALUES (1, 2);
CREATE TABLE long (t text);
INSERT INTO long VALUES (repeat(E'\\.\n', 1000000)), (E'\\.'), (E'\n\\.\n'), ('');
