-- Names with every odd character, reserved words, 63 bytes, that differ in case only, tables without columns.
-- since: 15
CREATE TABLE "select" ("from" int, "Where" text, "a""b" int, "c\d" int, "e'f" int, "😀" int, "g
h" int, "-i" int, "%j" int, "k.l" int, " " int, "$m$" int);
INSERT INTO "select" VALUES (1, 'x');
CREATE TABLE "SELECT" (id int);
CREATE TABLE "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" ("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" serial PRIMARY KEY);
CREATE TABLE "-- x" (id int CHECK (id > 0));
CREATE TABLE "/* y" (id int);
CREATE TABLE "\! id" (id int);
CREATE TABLE "new
line" (id int);
INSERT INTO "new
line" VALUES (1);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE FUNCTION "f;$$"() RETURNS int LANGUAGE sql AS 'SELECT 1';
