-- Event triggers, which only a superuser may make.
-- since: 15
CREATE TABLE t (id int);
INSERT INTO t VALUES (1);
-- admin:
CREATE FUNCTION public.noticed() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE DEBUG 'seen %', tg_tag; END $$;
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION public.noticed();
CREATE EVENT TRIGGER off ON sql_drop EXECUTE FUNCTION public.noticed();
ALTER EVENT TRIGGER off DISABLE;
COMMENT ON EVENT TRIGGER watch IS 'evt';
