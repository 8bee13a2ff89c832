-- A SQL_ASCII database with bytes that are no UTF-8 in names and defaults.
-- since: 15
-- database: ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0
DO $do$ BEGIN EXECUTE convert_from('\x435245415445205441424c45202274e9222028696420696e742c206e20746578742044454641554c542027e92729'::bytea, 'SQL_ASCII'); END $do$;
