-- Policies of every kind, FORCE, and roles they are for: the owner's own dump must see every row or say so.
-- since: 15
CREATE TABLE t (id int, who text);
INSERT INTO t VALUES (1, 'owner'), (2, 'reader');
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone ON t FOR SELECT USING (who = current_user);
CREATE POLICY writers ON t AS RESTRICTIVE FOR UPDATE TO writer, reader USING (id > 0) WITH CHECK (id < 10);
CREATE POLICY made ON t FOR INSERT TO owner WITH CHECK (true);
CREATE TABLE off (id int);
CREATE POLICY unused ON off USING (false);
COMMENT ON POLICY everyone ON t IS 'a policy';
