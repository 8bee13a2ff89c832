-- A foreign data wrapper of an administrator, and a server of it that the tenant made.
-- since: 15
-- admin:
CREATE FOREIGN DATA WRAPPER dummy OPTIONS (debug 'true');
GRANT USAGE ON FOREIGN DATA WRAPPER dummy TO owner;
-- owner:
CREATE SERVER s FOREIGN DATA WRAPPER dummy;
CREATE USER MAPPING FOR CURRENT_USER SERVER s;
CREATE FOREIGN TABLE ft (id int) SERVER s;
