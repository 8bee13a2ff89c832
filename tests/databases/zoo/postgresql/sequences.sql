-- Sequences: descending, cycling, of other types, not called yet, owned by columns, owned by nothing, shared, past limits.
-- since: 15
CREATE SEQUENCE s1 AS smallint INCREMENT -3 MINVALUE -100 MAXVALUE 50 START 20 CACHE 7 CYCLE;
CREATE SEQUENCE s2 START 1000;
SELECT nextval('s1'), nextval('s1'), setval('s2', 5000, false);
CREATE TABLE t (id int DEFAULT nextval('s2') PRIMARY KEY, n int DEFAULT nextval('s2'::regclass));
ALTER SEQUENCE s2 OWNED BY t.id;
INSERT INTO t DEFAULT VALUES;
CREATE TABLE u (id bigserial, a smallserial);
INSERT INTO u DEFAULT VALUES;
CREATE UNLOGGED SEQUENCE s3;
CREATE TABLE late (id int DEFAULT nextval('s3'::text));
