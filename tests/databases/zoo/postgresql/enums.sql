-- Enums: labels added in between and renamed, with quotes and odd characters, as key, default, array and in an index.
-- since: 15
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', '😀');
ALTER TYPE mood ADD VALUE 'between' BEFORE 'it''s ok';
ALTER TYPE mood RENAME VALUE 'sad' TO 'very sad';
CREATE TABLE t (m mood PRIMARY KEY DEFAULT '😀', all_of mood[]);
INSERT INTO t VALUES ('very sad', '{between,"it''s ok"}'), (DEFAULT, NULL);
CREATE INDEX i ON t (m) WHERE m > 'between';
CREATE TYPE empty_enum AS ENUM ();
