-- Grants on an extension's members, and a tenant's function that depends on an extension.
-- since: 15
-- admin:
CREATE EXTENSION pgcrypto;
REVOKE EXECUTE ON FUNCTION public.gen_random_uuid() FROM PUBLIC;
-- owner:
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
-- admin:
ALTER FUNCTION public.f() DEPENDS ON EXTENSION pgcrypto;
-- target:
CREATE EXTENSION pgcrypto;
REVOKE EXECUTE ON FUNCTION public.gen_random_uuid() FROM PUBLIC;
