-- A LATIN1 database.
-- since: 15
-- database: ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0
SET client_encoding = 'UTF8';
CREATE TABLE "tä" (id int, name text DEFAULT 'ö');
INSERT INTO "tä" VALUES (1, 'café ÿ');
COMMENT ON TABLE "tä" IS 'é';
