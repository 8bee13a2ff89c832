"""The SQL that we run around a tenant's: with no search path, so nothing of theirs stands for PostgreSQL's own."""

from __future__ import annotations

from collections.abc import Iterable

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

#: Drops what the account owns, extensions and their members kept. Runs inside the restore's transaction.
DROP_OWNED = """
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = '';
DO $liberu$
DECLARE item record; me oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user);
BEGIN
  FOR item IN
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
      CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
        WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relowner = me AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND n.nspname !~ '^pg_'
      AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
          AND (d.deptype = 'e' OR d.deptype = 'i' AND c.relkind = 'S'))  -- an identity column's goes with its table
  LOOP
    IF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = item.oid) THEN
      EXECUTE format('DROP %s %s CASCADE', item.kind, item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT p.oid, p.oid::regprocedure::text AS name FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proowner = me AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
  LOOP
    IF EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid = item.oid) THEN
      EXECUTE format('DROP ROUTINE %s CASCADE', item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT t.oid, format('%I.%I', n.nspname, t.typname) AS name,
      CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS kind
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typowner = me AND t.typtype IN ('e', 'd', 'r') AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
  LOOP
    IF EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = item.oid) THEN
      EXECUTE format('DROP %s %s CASCADE', item.kind, item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT n.oid, quote_ident(n.nspname) AS name FROM pg_catalog.pg_namespace n
    WHERE n.nspowner = me AND n.nspname <> 'public' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)
  LOOP
    EXECUTE format('DROP SCHEMA %s CASCADE', item.name);
  END LOOP;
  PERFORM pg_catalog.lo_unlink(m.oid) FROM pg_catalog.pg_largeobject_metadata m WHERE m.lomowner = me;
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


def unknown_settings(known: str) -> frozenset[str]:
    """Of `_NEWER`, what is not in the last column of FACTS."""
    return frozenset(_NEWER) - frozenset(known.split(","))


def state_of(number: int, *, waiting: bool) -> str:
    """How a transaction ended; `waiting`: once it has."""
    source = f" FROM {_LOCK}" if waiting else ""
    return f"SET search_path = ''; SET lock_timeout = '60s'; SELECT pg_catalog.txid_status({number}){source};"
