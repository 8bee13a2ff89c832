-- A function in standard SQL over columns called begin, end and case; strings in it as well.
-- since: 15
CREATE TABLE slots (begin int, "end" int, "case" text);
INSERT INTO slots VALUES (1, 2, 'begin');
CREATE FUNCTION longest() RETURNS int BEGIN ATOMIC SELECT max(s.begin) FROM slots s WHERE s."case" = 'begin; end'; SELECT max(s."end" - s.begin) FROM slots s; END;
CREATE FUNCTION commit_word() RETURNS text BEGIN ATOMIC SELECT 'x'::text AS begin; END;
