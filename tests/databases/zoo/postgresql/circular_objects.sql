-- Things that need each other: tables by foreign keys, a view and a function, a table's default and a function over it.
-- since: 15
CREATE TABLE a (id int PRIMARY KEY, b int);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE);
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (1, 1); UPDATE a SET b = 1;
CREATE TABLE self (id int PRIMARY KEY, up int REFERENCES self ON DELETE SET NULL (up));
INSERT INTO self VALUES (1, 2), (2, 1);
CREATE FUNCTION row_of(a) RETURNS text LANGUAGE sql AS 'SELECT $1.id::text';
CREATE VIEW v AS SELECT a.id, row_of(a) AS r FROM a;
CREATE FUNCTION from_v() RETURNS SETOF v LANGUAGE sql AS 'SELECT * FROM v';
CREATE TABLE counted (id int DEFAULT 1);
CREATE FUNCTION next_one() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM public.counted';
ALTER TABLE counted ALTER COLUMN id SET DEFAULT next_one();
INSERT INTO counted DEFAULT VALUES;
