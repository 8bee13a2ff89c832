-- Text search dictionaries and configurations.
-- since: 15
CREATE TEXT SEARCH DICTIONARY stops (TEMPLATE = simple, STOPWORDS = english, ACCEPT = false);
CREATE TEXT SEARCH DICTIONARY stem (TEMPLATE = snowball, LANGUAGE = german);
CREATE TEXT SEARCH CONFIGURATION mine (COPY = english);
ALTER TEXT SEARCH CONFIGURATION mine ALTER MAPPING FOR asciiword, word WITH stops, stem;
ALTER TEXT SEARCH CONFIGURATION mine DROP MAPPING FOR url;
COMMENT ON TEXT SEARCH CONFIGURATION mine IS 'cfg'; COMMENT ON TEXT SEARCH DICTIONARY stem IS 'dict';
CREATE TABLE t (body text, doc tsvector GENERATED ALWAYS AS (to_tsvector('public.mine', body)) STORED);
INSERT INTO t VALUES ('the quick häuser');
CREATE INDEX i ON t USING gin (to_tsvector('public.mine', body));
