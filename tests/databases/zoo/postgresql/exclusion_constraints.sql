-- Exclusion constraints, one deferrable, one partial and with an operator of an extension.
-- since: 15
-- admin:
CREATE EXTENSION btree_gist;
-- owner:
CREATE TABLE booking (room int, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO booking VALUES (1, '[2026-01-01, 2026-01-02)'), (1, '[2026-01-02, 2026-01-03)'), (0, '[2026-01-02, 2026-01-03)');
CREATE TABLE circles (c circle, EXCLUDE USING gist (c WITH &&) WITH (fillfactor = 80));
INSERT INTO circles VALUES ('<(0,0),1>');
