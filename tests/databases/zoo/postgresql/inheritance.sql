-- Inheritance from several parents, columns merged and overridden, NO INHERIT checks, rows on every level.
-- since: 15
CREATE TABLE city (name text NOT NULL, people int DEFAULT 1, CHECK (people >= 0), CONSTRAINT only_here CHECK (name <> 'x') NO INHERIT);
CREATE TABLE thing (id int, name text);
CREATE TABLE capital (state char(2), people int DEFAULT 5, CONSTRAINT own CHECK (people < 9)) INHERITS (city, thing);
CREATE TABLE late (id int, name text, more text);
ALTER TABLE late INHERIT thing;
ALTER TABLE thing ADD COLUMN added int DEFAULT 3;
INSERT INTO city VALUES ('Ulm', 3);
INSERT INTO capital (name, state, id) VALUES ('Bern', 'BE', 1);
INSERT INTO late (id, name) VALUES (7, 'seven');
