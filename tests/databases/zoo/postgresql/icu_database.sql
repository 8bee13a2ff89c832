-- A database whose default collation is ICU's.
-- since: 15
-- database: LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' LOCALE 'C.UTF-8' ENCODING 'UTF8' TEMPLATE template0
CREATE TABLE t (name text PRIMARY KEY);
INSERT INTO t VALUES ('ä'), ('z'), ('A');
