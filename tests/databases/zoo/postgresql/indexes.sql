-- Every access method and option of indexes.
-- since: 15
CREATE TABLE t (id int PRIMARY KEY, name text, r int4range, p point, a int[], at timestamptz, doc tsvector, addr inet);
INSERT INTO t SELECT g, 'n' || g, int4range(g, g + 5), point(g, g), ARRAY[g], now(), to_tsvector('simple', 'n' || g), '10.0.0.1' FROM generate_series(1, 50) g;
CREATE INDEX i_btree ON t USING btree (name text_pattern_ops DESC NULLS LAST) WITH (fillfactor = 70, deduplicate_items = off);
CREATE INDEX i_hash ON t USING hash (name) WITH (fillfactor = 60);
CREATE INDEX i_gist ON t USING gist (r, p) WITH (buffering = on);
CREATE INDEX i_gin ON t USING gin (a, doc) WITH (fastupdate = off, gin_pending_list_limit = 128);
CREATE INDEX i_brin ON t USING brin (at timestamptz_minmax_multi_ops (values_per_range = 20)) WITH (pages_per_range = 4, autosummarize = on);
CREATE INDEX i_spgist ON t USING spgist (addr inet_ops);
CREATE INDEX i_partial ON t (id) INCLUDE (name) WHERE name LIKE 'n1%';
CREATE INDEX i_expression ON t (lower(name) COLLATE "C", (id * 2));
ALTER INDEX i_expression ALTER COLUMN 2 SET STATISTICS 500;
CREATE UNIQUE INDEX i_unique ON t (name, id);
ALTER TABLE t CLUSTER ON i_btree;
ALTER TABLE t REPLICA IDENTITY FULL;
COMMENT ON INDEX i_gin IS 'it''s a gin';
