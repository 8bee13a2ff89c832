-- Objects that another role owns in the tenant's schema: a restore may neither lose them nor widen who owns them.
-- since: 15
CREATE TABLE mine (id int PRIMARY KEY);
INSERT INTO mine VALUES (1);
-- admin:
CREATE TABLE public.theirs (id int REFERENCES public.mine);
ALTER TABLE public.theirs OWNER TO other;
INSERT INTO public.theirs VALUES (1);
GRANT SELECT ON public.theirs TO owner;
CREATE FUNCTION public.their_function() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION public.their_function() OWNER TO other;
