-- Row triggers of partitioned tables, one disabled on a partition alone.
-- since: 15
CREATE TABLE p (id int, note text) PARTITION BY LIST (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.note := 'seen'; RETURN new; END $$;
CREATE TRIGGER t BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f();
ALTER TABLE p2 DISABLE TRIGGER t;
INSERT INTO p VALUES (1, 'a'), (2, 'b');
