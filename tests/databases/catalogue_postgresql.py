"""All that a PostgreSQL database holds, as lines of text: a query per catalogue, objects by name, not number."""

from __future__ import annotations

import re
import subprocess

import psycopg

from demo.servers import PostgresqlServer
from tests.databases.comparison import Snapshot

#: The object of a row, its type before its name.
_NAMED = "(SELECT i.type || ' ' || i.identity FROM pg_identify_object('{catalogue}'::regclass, {oid}, 0) i)"
#: An access list in an order of its own, with the default where none is set.
_ACL = (
    "(SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE \"C\") "
    "FROM unnest(coalesce({column}, acldefault({kind}, {owner}))) a)"
)
#: Objects that are not the server's own and belong to no extension.
_OURS = (
    "{alias}.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalogue}'::regclass "
    "AND d.objid = {alias}.oid AND d.deptype = 'e')"
)


def _options(column: str) -> str:
    """In an order of their own."""
    return f"(SELECT string_agg(o, ', ' ORDER BY o) FROM unnest({column}) o)"


def _owned(catalogue: str, prefix: str, acl: str = "", more: str = "''", where: str = "true") -> str:
    """Name, owner, access list and `more` of one catalogue's objects. `acl`: the kind of acldefault."""
    access = _ACL.format(column=f"x.{prefix}acl", kind=f"'{acl}'", owner=f"x.{prefix}owner") if acl else "''"
    return (
        f"SELECT concat_ws(' | ', {_NAMED.format(catalogue=catalogue, oid='x.oid')}, x.{prefix}owner::regrole, "
        f"{access}, {more}) FROM {catalogue} x WHERE {_OURS.format(alias='x', catalogue=catalogue)} AND {where}"
    )


def _row(catalogue: str, drop: str, more: str = "''", name: str = "x.oid", where: str = "true") -> str:
    """Name and every plain column but `drop`, of objects whose columns need no definition function."""
    return (
        f"SELECT concat_ws(' | ', {_NAMED.format(catalogue=catalogue, oid=name)}, {more}, "
        f"(to_jsonb(x) - '{{oid,{drop}}}'::text[])::text) FROM {catalogue} x "
        f"WHERE {_OURS.format(alias='x', catalogue=catalogue)} AND {where}"
    )


_ACL_KIND = "CASE c.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END"
_USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_NO_MEMBER = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid "
    "AND e.deptype = 'e')"
)
_RELATION = f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND {_USER_SCHEMA} AND {_NO_MEMBER}"

QUERIES: dict[str, str] = {
    "database": "SELECT concat_ws(' | ', pg_encoding_to_char(encoding), datcollate, datctype, "
    "shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname = current_database()",
    "database setting": "SELECT concat_ws(' | ', s.setrole::regrole, s.setconfig) FROM pg_db_role_setting s "
    "JOIN pg_database b ON b.oid = s.setdatabase WHERE b.datname = current_database()",
    "schema": "SELECT concat_ws(' | ', nspname, nspowner::regrole, "
    + _ACL.format(column="nspacl", kind="'n'", owner="nspowner")
    + ") FROM pg_namespace n WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
    "extension": "SELECT concat_ws(' | ', extname, extversion, extnamespace::regnamespace) FROM pg_extension",
    "relation": f"""SELECT concat_ws(' | ', c.oid::regclass, c.relkind, c.relpersistence, c.relowner::regrole,
        {_ACL.format(column="c.relacl", kind=_ACL_KIND, owner="c.relowner")},
        c.reloptions, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispopulated,
        (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace),
        (SELECT amname FROM pg_am WHERE oid = c.relam),
        CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END, pg_get_expr(c.relpartbound, c.oid),
        'of', NULLIF(c.reloftype, 0)::regtype, (SELECT t.reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid),
        (SELECT string_agg(h.inhparent::regclass::text, ',' ORDER BY h.inhseqno) FROM pg_inherits h
        WHERE h.inhrelid = c.oid))
        FROM {_RELATION} WHERE c.relkind NOT IN ('i', 'I', 't')""",
    "column": f"""SELECT concat_ws(' | ', concat(c.oid::regclass, '.', quote_ident(a.attname)),
        row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(b.adbin, b.adrelid), 'identity', a.attidentity,
        'generated', a.attgenerated, a.attcollation::regcollation, a.attstorage, a.attcompression,
        'statistics', a.attstattarget,
        (SELECT array_agg(o) FROM unnest(a.attoptions) o WHERE o !~ '^pg_attver='), a.attfdwoptions,
        a.attislocal, a.attinhcount,
        (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(a.attacl) x))
        FROM {_RELATION} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef b ON b.adrelid = c.oid AND b.adnum = a.attnum WHERE c.relkind NOT IN ('t')""",
    "constraint": f"""SELECT concat_ws(' | ', coalesce(NULLIF(k.conrelid, 0)::regclass::text,
        NULLIF(k.contypid, 0)::regtype::text) || '.' || quote_ident(k.conname), pg_get_constraintdef(k.oid),
        k.convalidated, k.condeferrable, k.condeferred, k.conislocal, k.coninhcount,
        CASE WHEN k.contype IN ('c', 'n') THEN k.connoinherit END,
        (SELECT p.conname FROM pg_constraint p WHERE p.oid = k.conparentid))
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace AND {_USER_SCHEMA} WHERE k.oid >= 16384""",
    "index": f"""SELECT concat_ws(' | ', c.oid::regclass, pg_get_indexdef(c.oid), x.indisvalid, x.indisclustered,
        x.indisreplident, x.indisprimary, x.indisunique, x.indimmediate,
        (SELECT i.inhparent::regclass FROM pg_inherits i WHERE i.inhrelid = c.oid))
        FROM {_RELATION} JOIN pg_index x ON x.indexrelid = c.oid""",
    "sequence": f"""SELECT concat_ws(' | ', c.oid::regclass, s.seqtypid::regtype, s.seqstart, s.seqincrement,
        s.seqmax, s.seqmin, s.seqcache, s.seqcycle,
        (SELECT concat(o.refobjid::regclass, '.', o.refobjsubid, o.deptype) FROM pg_depend o
        WHERE o.classid = 'pg_class'::regclass AND o.objid = c.oid AND o.deptype IN ('a', 'i')))
        FROM {_RELATION} JOIN pg_sequence s ON s.seqrelid = c.oid""",
    "view": f"SELECT concat_ws(' | ', c.oid::regclass, pg_get_viewdef(c.oid)) FROM {_RELATION} "
    "WHERE c.relkind IN ('v', 'm')",
    "rule": f"SELECT concat_ws(' | ', c.oid::regclass, pg_get_ruledef(r.oid), r.ev_enabled) FROM {_RELATION} "
    "JOIN pg_rewrite r ON r.ev_class = c.oid WHERE r.rulename <> '_RETURN'",
    "trigger": f"SELECT concat_ws(' | ', c.oid::regclass, pg_get_triggerdef(t.oid), t.tgenabled) FROM {_RELATION} "
    "JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal",
    "policy": "SELECT concat_ws(' | ', schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check) "
    "FROM pg_policies",
    "routine": _owned("pg_proc", "pro", "f", "pg_get_functiondef(x.oid)", "x.prokind <> 'a'"),
    "aggregate": _owned(
        "pg_proc",
        "pro",
        "f",
        "(SELECT concat((to_jsonb(g) - 'aggfnoid')::text, pg_get_function_arguments(x.oid), x.proparallel) "
        "FROM (SELECT aggkind, aggnumdirectargs, aggtransfn::text, aggfinalfn::text, aggcombinefn::text, "
        "aggserialfn::text, aggmtransfn::text, aggminvtransfn::text, aggfinalextra, aggfinalmodify, "
        "aggsortop::regoperator::text, aggtranstype::regtype::text, aggtransspace, agginitval, aggminitval, aggfnoid "
        "FROM pg_aggregate) g WHERE g.aggfnoid = x.oid)",
        "x.prokind = 'a'",
    ),
    "type": _owned(
        "pg_type",
        "typ",
        "T",
        "x.typtype, x.typcategory, x.typispreferred, x.typdelim, x.typlen, x.typbyval, x.typalign, x.typstorage, "
        "x.typinput::regproc, x.typnotnull, NULLIF(x.typbasetype, 0)::regtype, "
        "format_type(NULLIF(x.typbasetype, 0), x.typtypmod), x.typdefault, x.typcollation::regcollation, "
        "(SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = x.oid), "
        "(SELECT concat_ws(' ', r.rngsubtype::regtype, r.rngmultitypid::regtype, r.rngcollation::regcollation, "
        "(SELECT opcname FROM pg_opclass WHERE oid = r.rngsubopc), r.rngcanonical, r.rngsubdiff) FROM pg_range r "
        "WHERE r.rngtypid = x.oid)",
    ),
    "cast": _row(
        "pg_cast",
        "castsource,casttarget,castfunc",
        "x.castsource::regtype, x.casttarget::regtype, x.castfunc::regprocedure",
    ),
    "operator": _owned(
        "pg_operator",
        "opr",
        "",
        "x.oprcode::regprocedure, x.oprcom::regoperator, x.oprnegate::regoperator, x.oprrest, x.oprjoin, "
        "x.oprcanmerge, x.oprcanhash",
    ),
    "operator class": _owned(
        "pg_opclass", "opc", "", "x.opcdefault, x.opcintype::regtype, NULLIF(x.opckeytype, 0)::regtype"
    ),
    "operator family": _owned(
        "pg_opfamily",
        "opf",
        "",
        "(SELECT string_agg(concat_ws(' ', o.amopstrategy, o.amoppurpose, o.amopopr::regoperator), ',' ORDER BY "
        "o.amopstrategy, o.amopopr::regoperator::text) FROM pg_amop o WHERE o.amopfamily = x.oid), "
        "(SELECT string_agg(concat_ws(' ', p.amprocnum, p.amproc::regprocedure), ',' ORDER BY p.amprocnum, "
        "p.amproc::regprocedure::text) FROM pg_amproc p WHERE p.amprocfamily = x.oid)",
    ),
    "collation": _owned(
        "pg_collation",
        "coll",
        "",
        "(to_jsonb(x) - '{oid,collname,collnamespace,collowner,collversion,collencoding}'::text[])::text",
    ),
    "conversion": _owned(
        "pg_conversion", "con", "", "x.conforencoding, x.contoencoding, x.conproc::regproc, x.condefault"
    ),
    "text search parser": _row("pg_ts_parser", "prsname,prsnamespace"),
    "text search template": _row("pg_ts_template", "tmplname,tmplnamespace"),
    "text search dictionary": _owned("pg_ts_dict", "dict", "", "x.dictinitoption, x.dicttemplate::text <> '0'"),
    "text search configuration": _owned(
        "pg_ts_config",
        "cfg",
        "",
        "(SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ',' ORDER BY "
        "m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = x.oid)",
    ),
    "language": "SELECT concat_ws(' | ', lanname, lanowner::regrole, "
    + _ACL.format(column="lanacl", kind="'l'", owner="lanowner")
    + ") FROM pg_language",
    "transform": _row(
        "pg_transform",
        "trftype,trflang,trffromsql,trftosql",
        "x.trftype::regtype, x.trffromsql::regprocedure, x.trftosql::regprocedure",
    ),
    "access method": _row("pg_am", "amhandler", "x.amhandler::regproc"),
    "statistics": _owned("pg_statistic_ext", "stx", "", "pg_get_statisticsobjdef(x.oid), x.stxstattarget"),
    "event trigger": _owned("pg_event_trigger", "evt", "", "x.evtevent, x.evtfoid::regproc, x.evtenabled, x.evttags"),
    "publication": _owned("pg_publication", "pub", "", "(to_jsonb(x) - '{oid,pubowner}'::text[])::text"),
    "publication table": "SELECT concat_ws(' | ', p.pubname, r.prrelid::regclass, pg_get_expr(r.prqual, r.prrelid), "
    "(SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = r.prrelid "
    "AND attnum = ANY(r.prattrs))) "
    "FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid",
    "publication schema": "SELECT concat_ws(' | ', p.pubname, r.pnnspid::regnamespace) "
    "FROM pg_publication_namespace r JOIN pg_publication p ON p.oid = r.pnpubid",
    "subscription": "SELECT concat_ws(' | ', subname, subowner::regrole, subenabled, subslotname, subpublications) "
    "FROM pg_subscription s JOIN pg_database b ON b.oid = s.subdbid WHERE b.datname = current_database()",
    "foreign data wrapper": _owned("pg_foreign_data_wrapper", "fdw", "F", _options("x.fdwoptions")),
    "server": _owned("pg_foreign_server", "srv", "S", "x.srvtype, x.srvversion, " + _options("x.srvoptions")),
    "user mapping": f"SELECT concat_ws(' | ', srvname, usename, {_options('umoptions')}) FROM pg_user_mappings",
    "foreign table": f"SELECT concat_ws(' | ', t.ftrelid::regclass, s.srvname, {_options('t.ftoptions')}) "
    "FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver",
    "default privileges": "SELECT concat_ws(' | ', d.defaclrole::regrole, "
    "NULLIF(d.defaclnamespace, 0)::regnamespace, "
    "d.defaclobjtype, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(d.defaclacl) a)) "
    "FROM pg_default_acl d",
    "comment": "SELECT concat_ws(' | ', i.type, i.identity, d.description) FROM pg_description d, "
    "pg_identify_object(d.classoid, d.objoid, d.objsubid) i WHERE d.objoid >= 16384 OR i.identity = 'public'",
    "security label": "SELECT concat_ws(' | ', objtype, objname, provider, label) FROM pg_seclabels",
    "depends on extension": "SELECT concat_ws(' | ', i.type, i.identity, e.extname) FROM pg_depend d "
    "JOIN pg_extension e ON e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, d.objsubid) i "
    "WHERE d.deptype = 'x'",
    "large object": "SELECT concat_ws(' | ', m.oid, m.lomowner::regrole, "
    + _ACL.format(column="m.lomacl", kind="'L'", owner="m.lomowner")
    + ", md5(lo_get(m.oid))) FROM pg_largeobject_metadata m",
}
#: Of partitions as one: a hash by numbers that change puts rows elsewhere.
_ROWS = (
    f"SELECT c.oid::regclass::text, c.relkind FROM {_RELATION} WHERE c.relkind IN ('r', 'p', 'm', 'S') "
    "AND NOT c.relispartition"
)
_EXTENSION_ROWS = (
    "SELECT t.oid::regclass::text, 'r' FROM pg_extension e, unnest(e.extconfig) t (oid) WHERE e.extconfig IS NOT NULL"
)


def connect(server: PostgresqlServer, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
    """As an administrator, whom no policy hides a row from."""
    connection = psycopg.connect(
        host="127.0.0.1", port=server.port, user="admin", password=server.admin_password, dbname=database
    )
    if connection.info.parameter_status("server_encoding") != "SQL_ASCII":
        connection.execute("SET client_encoding = 'UTF8'")
        connection.commit()
    return connection


def postgresql_snapshot(server: PostgresqlServer, database: str) -> Snapshot:
    with connect(server, database) as connection:
        connection.execute("SET search_path = ''")
        connection.execute("SET extra_float_digits = 3")
        found = {section: _lines(connection, query) for section, query in QUERIES.items()}
        found["rows"] = []
        tables = [
            line for query in (_ROWS, _EXTENSION_ROWS) for line in connection.execute(query.encode()).fetchall()
        ]
        for name, kind in ((_text(row[0]), _text(row[1])) for row in tables):
            found["rows"].append(f"{name} | {_rows(connection, name, kind)}")
    return found


def _rows(connection: psycopg.Connection[tuple[object, ...]], table: str, kind: str) -> str:
    """Their number and a sum over them in no order; of a sequence, where it is."""
    columns = "(x.last_value, x.is_called)::text" if kind == "S" else "x::text"
    which = table if kind == "p" else f"ONLY {table}"
    query = f"SELECT count(*), md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5({columns}) FROM {which} x) x (h)"
    try:
        with connection.transaction():
            row = connection.execute(query.encode("utf-8", "surrogateescape")).fetchone()
    except psycopg.Error as error:  # a materialized view without data
        return str(error)
    return str(row)


def _lines(connection: psycopg.Connection[tuple[object, ...]], query: str) -> list[str]:
    try:
        with connection.transaction():
            return sorted(_text(row[0]) for row in connection.execute(query.encode()).fetchall())
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return ["this server has no such catalogue"]


def _text(value: object) -> str:
    """In a SQL_ASCII database text comes as bytes."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def postgresql_drop_rows(server: PostgresqlServer, database: str) -> None:
    """Empty every table that holds rows, whatever refers to it or watches it."""
    with connect(server, database) as connection:
        connection.execute("SET session_replication_role = replica")
        names = connection.execute(_ROWS.encode()).fetchall()
        for name, kind in names:
            which = {"r": "ONLY ", "p": ""}.get(_text(kind))
            if which is not None:
                connection.execute(f"DELETE FROM {which}{_text(name)}".encode("utf-8", "surrogateescape"))


def postgresql_native(server: PostgresqlServer, database: str, program: str) -> list[str]:
    """What pg_dump says of all that is not data."""
    result = subprocess.run(
        [program, "--schema-only", "-h", "127.0.0.1", "-p", str(server.port), "-U", "admin", "-d", database],
        env={"PGPASSWORD": server.admin_password, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    text = result.stdout.decode("utf-8", "surrogateescape") or result.stderr.decode("utf-8", "surrogateescape")
    return [
        line for line in text.splitlines() if line and not re.match(r"--|\\(un)?restrict |SELECT pg_catalog", line)
    ]
