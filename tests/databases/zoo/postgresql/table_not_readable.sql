-- A table of another role that the tenant may not read: the backup cannot be whole without saying so.
-- since: 15
CREATE TABLE mine (id int);
-- admin:
CREATE TABLE public.hidden (id int);
ALTER TABLE public.hidden OWNER TO other;
INSERT INTO public.hidden VALUES (1);
