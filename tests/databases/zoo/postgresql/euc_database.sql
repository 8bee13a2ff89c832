-- A EUC_JP database: multibyte and not UTF-8.
-- since: 15
-- database: ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0
SET client_encoding = 'UTF8';
CREATE TABLE t (id int, name text);
INSERT INTO t VALUES (1, '日本語');
