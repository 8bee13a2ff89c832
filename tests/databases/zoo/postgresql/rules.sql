-- Rules of every event, conditional, with several actions, disabled, on a view and on a table.
-- since: 15
CREATE TABLE t (id int, note text);
CREATE TABLE log (what text);
CREATE RULE notes AS ON INSERT TO t WHERE new.id > 5 DO ALSO (INSERT INTO log VALUES ('i' || new.id); INSERT INTO log VALUES (new.note));
CREATE RULE never AS ON DELETE TO t DO INSTEAD NOTHING;
CREATE VIEW v AS SELECT * FROM t;
CREATE RULE through AS ON UPDATE TO v DO INSTEAD UPDATE t SET note = new.note WHERE id = old.id RETURNING t.*;
CREATE RULE off AS ON UPDATE TO t DO ALSO NOTIFY changed;
ALTER TABLE t DISABLE RULE off;
ALTER TABLE t ENABLE ALWAYS RULE notes;
INSERT INTO t VALUES (1, 'a'), (9, 'b');
COMMENT ON RULE notes ON t IS 'a rule';
