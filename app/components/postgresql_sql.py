"""The SQL that we run around a tenant's: with no search path, so nothing of theirs stands for PostgreSQL's own."""

from __future__ import annotations

from collections.abc import Iterable


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Where standard_conforming_strings is on."""
    return "'" + text.replace("'", "''") + "'"


_LOCK_SECONDS = 300
_LOCK = f"pg_catalog.pg_advisory_xact_lock({int.from_bytes(b'liberu')})"

#: A session whose client is gone may still be at its statement: the lock is held until its transaction is over.
#: What is printed first is the number by which the server knows later whether this one was committed.
BEGIN = f"""BEGIN;
SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';
SET LOCAL standard_conforming_strings = on;
SELECT pg_catalog.txid_current() AS liberu FROM {_LOCK} \\gset
\\echo :liberu
"""
#: The first fails when the script has ended our transaction by itself.
COMMIT = """SELECT pg_catalog.int4div(1,
  CASE WHEN pg_catalog.int8eq(pg_catalog.txid_current(), :liberu) THEN 1 ELSE 0 END);
COMMIT;
"""

#: Drops all that the server's own records (pg_shdepend) say the account owns in this database, of whatever kind, and
#: takes its default privileges back. Kept: extensions and the schemas they are in, what belongs to something else
#: (an identity column's sequence), and schemas that it could not make again. Runs inside the restore's transaction.
DROP_OWNED = """
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = '';
DO $liberu$
DECLARE item record; me oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user); command text;
BEGIN
  FOR item IN
    SELECT CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
        WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind,
      CASE WHEN d.defaclnamespace <> 0 THEN 'IN SCHEMA ' || d.defaclnamespace::regnamespace ELSE '' END AS place,
      d.defaclobjtype AS letter,
      ARRAY(SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM aclexplode(d.defaclacl) a) AS grantees
    FROM pg_catalog.pg_default_acl d WHERE d.defaclrole = me
  LOOP
    FOREACH command IN ARRAY item.grantees LOOP
      EXECUTE format('ALTER DEFAULT PRIVILEGES %s REVOKE ALL ON %s FROM %s', item.place, item.kind, command);
    END LOOP;
    IF item.place = '' THEN  -- what holds where nothing is set
      EXECUTE format('ALTER DEFAULT PRIVILEGES GRANT ALL ON %s TO %I', item.kind, current_user);
      IF item.letter IN ('f', 'T') THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES GRANT ALL ON %s TO PUBLIC', item.kind);
      END IF;
    END IF;
  END LOOP;
  FOR item IN
    SELECT s.classid, s.objid FROM pg_catalog.pg_shdepend s
    WHERE s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = me
      AND s.dbid = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = current_database())
      AND s.classid NOT IN ('pg_catalog.pg_extension'::regclass, 'pg_catalog.pg_default_acl'::regclass)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = s.classid AND d.objid = s.objid AND d.objsubid = 0 AND d.deptype IN ('e', 'i'))
      AND NOT (s.classid = 'pg_catalog.pg_namespace'::regclass
        AND (NOT has_database_privilege(current_database(), 'CREATE')
          OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = s.objid)))
  LOOP
    CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_shdepend s
      WHERE s.classid = item.classid AND s.objid = item.objid AND s.deptype = 'o' AND s.refobjid = me);  -- went along
    SELECT CASE
        WHEN i.schema ~ '^pg_' OR i.type = 'schema' AND i.identity ~ '^(pg_|public$)' THEN NULL
        WHEN i.type = 'large object' THEN format('SELECT pg_catalog.lo_unlink(%s)', item.objid)
        WHEN i.type = 'user mapping' THEN (SELECT format('DROP USER MAPPING FOR CURRENT_USER SERVER %I', m.srvname)
          FROM pg_catalog.pg_user_mappings m WHERE m.umid = item.objid)
        ELSE format('DROP %s %s CASCADE', CASE WHEN i.type IN ('function', 'procedure', 'aggregate') THEN 'ROUTINE'
          WHEN i.type = 'statistics object' THEN 'STATISTICS' WHEN i.type = 'foreign-data wrapper'
          THEN 'FOREIGN DATA WRAPPER' ELSE upper(i.type) END, i.identity) END
      INTO command FROM pg_catalog.pg_identify_object(item.classid, item.objid, 0) i;
    IF command IS NOT NULL THEN
      EXECUTE command;
    END IF;
  END LOOP;
  FOR item IN  -- of the schemas that stay
    SELECT n.nspname, a.grantee::regrole AS grantee FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
    WHERE n.nspowner = me AND n.nspname !~ '^pg_' AND a.grantee NOT IN (0, me)
  LOOP
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s CASCADE', item.nspname, item.grantee);
  END LOOP;
END $liberu$;
SET LOCAL search_path TO DEFAULT;
"""

#: Of what a dump may set at its beginning, what not every server knows.
_NEWER = ("transaction_timeout", "default_table_access_method", "idle_in_transaction_session_timeout")
#: Roles that reach beyond a database: the server's files and programs, others' sessions, other servers.
_FAR = (
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_signal_backend",
    "pg_create_subscription",
)


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


#: Version; what the account may do outside of the database, with all that it can become; how many tables there are;
#: which of `_NEWER` the server knows.
FACTS = f"""
SET search_path = '';
SELECT current_setting('server_version'),
  (SELECT concat_ws(', ', CASE WHEN bool_or(r.rolsuper) THEN 'superuser' END,
     CASE WHEN bool_or(r.rolcreaterole) THEN 'CREATEROLE' END,
     CASE WHEN bool_or(r.rolreplication) THEN 'REPLICATION' END,
     string_agg(CASE WHEN r.rolname IN ({_list(_FAR)}) THEN r.rolname::text END, ', '))
   FROM pg_catalog.pg_roles r WHERE pg_has_role(session_user, r.oid, 'MEMBER')),
  (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
       WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
  (SELECT string_agg(s.name, ',') FROM pg_catalog.pg_settings s WHERE s.name IN ({_list(_NEWER)}));
"""


#: What a dump must know: in which encoding, and what it can not hold: tables that the account may not read, those of
#: which policies may hide rows from it, subscriptions.
UNREADABLE = """
SET search_path = '';
WITH ours AS (
  SELECT c.oid, c.relkind, n.oid AS place, n.nspname, c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
SELECT json_build_object('encoding', current_setting('server_encoding'),
  'locale', (SELECT json_build_object('collate', b.datcollate, 'ctype', b.datctype) FROM pg_catalog.pg_database b
    WHERE b.datname = current_database()),
  'unreadable', (SELECT coalesce(json_agg(json_build_array(o.nspname, o.relname)), '[]') FROM ours o
    WHERE NOT has_schema_privilege(o.place, 'USAGE') OR NOT CASE o.relkind WHEN 'S'
      THEN has_sequence_privilege(o.oid, 'SELECT') ELSE has_table_privilege(o.oid, 'SELECT') END),
  'hidden', (SELECT coalesce(json_agg(json_build_array(o.nspname, o.relname)), '[]') FROM ours o
    WHERE o.relkind <> 'S' AND has_schema_privilege(o.place, 'USAGE') AND row_security_active(o.oid)),
  'subscriptions', (SELECT coalesce(json_agg(s.subname), '[]') FROM pg_catalog.pg_subscription s
    JOIN pg_catalog.pg_database b ON b.oid = s.subdbid WHERE b.datname = current_database()));
"""

#: Relations of other roles, which a restore can neither drop nor make anew; views are dropped with what they show.
OTHERS = """
SET search_path = '';
SELECT coalesce(json_agg(json_build_array(o.nspname, o.relname)), '[]') FROM (
  SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'S', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND c.relowner <> (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  LIMIT 10000) o;
"""


def unknown_settings(known: str) -> frozenset[str]:
    """Of `_NEWER`, what is not in the last column of FACTS."""
    return frozenset(_NEWER) - frozenset(known.split(","))


def state_of(number: int, *, waiting: bool) -> str:
    """How a transaction ended; `waiting`: once it has."""
    source = f" FROM {_LOCK}" if waiting else ""
    return f"SET search_path = ''; SET lock_timeout = '60s'; SELECT pg_catalog.txid_status({number}){source};"
