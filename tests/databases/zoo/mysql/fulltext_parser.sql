-- A fulltext index with a parser of its own and stop words.
-- since: mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, a text, FULLTEXT KEY (a) WITH PARSER ngram); INSERT INTO t VALUES (1, '日本語');
