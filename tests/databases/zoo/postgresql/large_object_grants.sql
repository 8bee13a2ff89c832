-- Grants on large objects.
-- since: 15
SELECT lo_from_bytea(900001, 'x');
GRANT SELECT ON LARGE OBJECT 900001 TO reader;
