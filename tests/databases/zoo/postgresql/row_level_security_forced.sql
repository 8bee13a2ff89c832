-- FORCE ROW LEVEL SECURITY: it hides rows from the owner, who makes the dump.
-- since: 15
CREATE TABLE t (id int, who text);
INSERT INTO t VALUES (1, 'owner'), (2, 'reader');
CREATE POLICY mine ON t USING (who = current_user);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
