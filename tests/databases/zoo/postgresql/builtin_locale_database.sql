-- A database of the builtin locale provider.
-- since: 17
-- database: LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C.UTF-8' TEMPLATE template0
CREATE COLLATION mine (provider = builtin, locale = 'C.UTF-8');
CREATE TABLE t (n text COLLATE mine);
INSERT INTO t VALUES ('ä');
