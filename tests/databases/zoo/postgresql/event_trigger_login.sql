-- An event trigger at login.
-- since: 17
-- admin:
CREATE FUNCTION public.noticed() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE EVENT TRIGGER watch ON login EXECUTE FUNCTION public.noticed();
ALTER EVENT TRIGGER watch ENABLE ALWAYS;
