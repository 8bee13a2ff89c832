-- Columns that were dropped, also from parents, and a table with nothing else left.
-- since: 15
CREATE TABLE t (a int, b text, c int);
CREATE TABLE child () INHERITS (t);
INSERT INTO child VALUES (1, 'b', 3);
ALTER TABLE t DROP COLUMN b;
CREATE TABLE gone (x int);
INSERT INTO gone VALUES (1), (2);
ALTER TABLE gone DROP COLUMN x;
