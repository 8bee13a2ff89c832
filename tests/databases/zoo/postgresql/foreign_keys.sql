-- Foreign keys of every action, MATCH FULL, NOT VALID, deferrable, on several columns, SET DEFAULT of some columns.
-- since: 15
CREATE TABLE p (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE c (a int DEFAULT 0, b int DEFAULT 0, n int, FOREIGN KEY (a, b) REFERENCES p MATCH FULL ON DELETE SET DEFAULT (b) ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO p VALUES (0, 0), (1, 1);
INSERT INTO c VALUES (1, 1, 1), (NULL, NULL, 2);
CREATE TABLE bad (a int, b int);
INSERT INTO bad VALUES (9, 9);
ALTER TABLE bad ADD CONSTRAINT dangling FOREIGN KEY (a, b) REFERENCES p NOT VALID;
COMMENT ON CONSTRAINT dangling ON bad IS 'not valid';
