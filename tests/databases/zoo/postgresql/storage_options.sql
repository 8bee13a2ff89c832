-- Unlogged tables, fillfactor, autovacuum and toast options, storage and compression of columns.
-- since: 15
CREATE UNLOGGED TABLE u (id int PRIMARY KEY, n serial);
INSERT INTO u VALUES (1);
CREATE TABLE t (a text, b text, c text, d bytea) WITH (fillfactor = 50, autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 200, parallel_workers = 2);
ALTER TABLE t ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE MAIN, ALTER c SET STORAGE PLAIN, ALTER d SET COMPRESSION lz4;
INSERT INTO t VALUES (repeat('x', 9000), 'b', 'c', decode(repeat('ab', 9000), 'hex'));
