-- Composite types: nested, as columns, arrays, with a collation, changed later; typed tables.
-- since: 15
CREATE TYPE inner_type AS (a int, gone text, b text COLLATE "C");
ALTER TYPE inner_type DROP ATTRIBUTE gone;
CREATE TYPE outer_type AS (i inner_type, list inner_type[]);
CREATE TABLE t (id int, o outer_type, os outer_type[]);
INSERT INTO t VALUES (1, '("(1,x)","{""(2,y)""}")', NULL);
CREATE TABLE typed OF inner_type (a WITH OPTIONS PRIMARY KEY DEFAULT 9);
INSERT INTO typed VALUES (1, 'b');
CREATE TABLE row_of_table (id int, whole t);
COMMENT ON TYPE outer_type IS 'ct'; COMMENT ON COLUMN inner_type.a IS 'attribute';
