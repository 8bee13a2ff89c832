-- Schemas with odd names, one empty, one with objects that need another's.
-- since: 15
-- admin:
GRANT CREATE ON DATABASE zoo TO owner;
-- owner:
CREATE SCHEMA "Odd "" schema; \ x";
CREATE SCHEMA empty;
CREATE TABLE "Odd "" schema; \ x"."t.b" (id serial PRIMARY KEY, "c'ol" text);
INSERT INTO "Odd "" schema; \ x"."t.b" ("c'ol") VALUES ('x');
CREATE VIEW public.v AS SELECT * FROM "Odd "" schema; \ x"."t.b";
-- target:
GRANT CREATE ON DATABASE zoo_copy TO owner;
