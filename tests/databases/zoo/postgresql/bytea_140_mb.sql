-- One value of 140 MB: its line in a dump is 280 MB.
-- since: 15
-- slow: yes
CREATE TABLE t (id int, b bytea);
ALTER TABLE t ALTER b SET STORAGE EXTERNAL;
INSERT INTO t SELECT 1, decode(repeat('00ff5c0a', 35 * 1024 * 1024), 'hex');
