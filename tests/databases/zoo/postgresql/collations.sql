-- Collations: libc, ICU, nondeterministic, copies; used by columns, domains and indexes.
-- since: 15
CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION copied FROM "C";
CREATE TABLE t (a text COLLATE german, b text COLLATE no_case UNIQUE, c text COLLATE copied);
INSERT INTO t VALUES ('ä', 'Abc', 'x');
CREATE INDEX i ON t (a COLLATE no_case);
COMMENT ON COLLATION german IS 'coll';
