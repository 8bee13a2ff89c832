-- Conversions between encodings.
-- since: 15
-- admin:
GRANT CREATE ON SCHEMA public TO owner;
-- owner:
CREATE CONVERSION mine FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
COMMENT ON CONVERSION mine IS 'conv';
