"""What a database holds, by the server's catalogues: beside it lie a dump's own list and what a dump was loaded into.

Only kinds that pg_dump gives an entry of their own, under the same two numbers as the catalogue (selectDumpable… and
ArchiveEntry in pg_dump.c, 13 to 18): no CHECK, default or row type, which are parts of others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from app.components.base import Report

_LISTED = re.compile(rb"^\d+; (\d+) (\d+) ([A-Z ]+)", re.MULTILINE)
_NORMAL = 16384  # the first number that is not initdb's

#: One row of JSON: class, number, kind, name, the relation it is of (schema, name), whether it has rows of its own,
#: whether it is the account's.
CATALOGUE = f"""
WITH mine AS (
  SELECT s.classid, s.objid FROM pg_shdepend s WHERE s.deptype = 'o' AND s.refclassid = 'pg_authid'::regclass
    AND s.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
    AND s.refobjid = (SELECT a.oid FROM pg_roles a WHERE a.rolname = current_user)
), extensions AS (
  SELECT d.classid, d.objid FROM pg_depend d WHERE d.deptype = 'e'
), found (classid, objid, place, relation, rows) AS (
  SELECT 'pg_class'::regclass, c.oid, c.relnamespace, coalesce((SELECT d.refobjid FROM pg_depend d
      WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
        AND d.refclassid = 'pg_class'::regclass LIMIT 1), c.oid), c.relkind = 'r'
    FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  UNION ALL SELECT 'pg_class'::regclass, i.indexrelid, c.relnamespace, i.indrelid, false
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE i.indisvalid AND c.relkind IN ('r', 'p', 'm')
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
  UNION ALL SELECT 'pg_constraint'::regclass, k.oid, k.connamespace, k.conrelid, false
    FROM pg_constraint k WHERE k.contype IN ('f', 'p', 'u', 'x') AND k.conparentid = 0 AND k.conrelid <> 0
  UNION ALL SELECT 'pg_trigger'::regclass, t.oid, c.relnamespace, t.tgrelid, false
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0'
  UNION ALL SELECT 'pg_policy'::regclass, p.oid, c.relnamespace, p.polrelid, false
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
  UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, c.relnamespace, r.ev_class, false
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'
  UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, s.stxnamespace, s.stxrelid, false FROM pg_statistic_ext s
  UNION ALL SELECT 'pg_proc'::regclass, p.oid, p.pronamespace, 0::oid, false FROM pg_proc p
    WHERE NOT EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
  UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typnamespace, 0::oid, false FROM pg_type t
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typisdefined AND (t.typtype IN ('b', 'd', 'e', 'r') OR c.relkind = 'c')
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
  UNION ALL SELECT 'pg_operator'::regclass, o.oid, o.oprnamespace, 0::oid, false FROM pg_operator o
    WHERE o.oprcode <> 0
  UNION ALL SELECT 'pg_opclass'::regclass, o.oid, o.opcnamespace, 0::oid, false FROM pg_opclass o
  UNION ALL SELECT 'pg_collation'::regclass, c.oid, c.collnamespace, 0::oid, false FROM pg_collation c
  UNION ALL SELECT 'pg_conversion'::regclass, c.oid, c.connamespace, 0::oid, false FROM pg_conversion c
  UNION ALL SELECT 'pg_ts_config'::regclass, c.oid, c.cfgnamespace, 0::oid, false FROM pg_ts_config c
  UNION ALL SELECT 'pg_ts_dict'::regclass, d.oid, d.dictnamespace, 0::oid, false FROM pg_ts_dict d
  UNION ALL SELECT 'pg_namespace'::regclass, n.oid, n.oid, 0::oid, false FROM pg_namespace n
    WHERE n.nspname <> 'public'
  UNION ALL SELECT 'pg_extension'::regclass, e.oid, 0::oid, 0::oid, false FROM pg_extension e
  UNION ALL SELECT 'pg_event_trigger'::regclass, e.oid, 0::oid, 0::oid, false FROM pg_event_trigger e
  UNION ALL SELECT 'pg_publication'::regclass, p.oid, 0::oid, 0::oid, false FROM pg_publication p
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, 0::oid, 0::oid, false FROM pg_foreign_data_wrapper w
  UNION ALL SELECT 'pg_foreign_server'::regclass, s.oid, 0::oid, 0::oid, false FROM pg_foreign_server s
)
SELECT coalesce(json_agg(json_build_array(f.classid::oid::int8, f.objid::int8, i.type, i.identity, n.nspname,
    r.relname, f.rows, (f.classid::oid, f.objid) IN (SELECT m.classid, m.objid FROM mine m)
      OR ('pg_class'::regclass::oid, f.relation) IN (SELECT m.classid, m.objid FROM mine m))), '[]')
FROM found f
LEFT JOIN pg_namespace n ON n.oid = f.place LEFT JOIN pg_class r ON r.oid = f.relation
CROSS JOIN LATERAL pg_identify_object(f.classid, f.objid, 0) i
WHERE f.objid >= {_NORMAL} AND (n.oid IS NULL OR n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
  AND (f.classid::oid, f.objid) NOT IN (SELECT o.classid, o.objid FROM extensions o)
  AND ('pg_class'::regclass::oid, f.relation) NOT IN (SELECT o.classid, o.objid FROM extensions o);
"""

#: What only an administrator can have made in the database, or given the account a right on, beside what CATALOGUE
#: tells: an empty database lacks it. Of schemas its owner needs no rights.
GIVEN = f"""
SELECT coalesce(json_agg(concat_ws(' ', i.type, i.identity)), '[]') FROM (
  SELECT 'pg_language'::regclass, l.oid FROM pg_language l
  UNION ALL SELECT 'pg_am'::regclass, a.oid FROM pg_am a
  UNION ALL SELECT 'pg_transform'::regclass, t.oid FROM pg_transform t
  UNION ALL SELECT 'pg_cast'::regclass, c.oid FROM pg_cast c WHERE c.castmethod = 'b'
  UNION ALL SELECT 'pg_ts_parser'::regclass, p.oid FROM pg_ts_parser p
  UNION ALL SELECT 'pg_ts_template'::regclass, t.oid FROM pg_ts_template t
) f (classid, objid), pg_identify_object(f.classid, f.objid, 0) i
WHERE f.objid >= {_NORMAL} AND NOT EXISTS (SELECT FROM pg_depend d
  WHERE d.classid = f.classid AND d.objid = f.objid AND d.deptype = 'e');
SELECT coalesce(json_agg(DISTINCT concat('a right on ', i.type, ' ', i.identity)), '[]') FROM (
  SELECT 'pg_foreign_data_wrapper'::regclass::oid, w.oid FROM pg_foreign_data_wrapper w WHERE w.fdwacl IS NOT NULL
  UNION ALL SELECT s.classid, s.objid FROM pg_shdepend s
    WHERE s.deptype = 'a' AND s.refclassid = 'pg_authid'::regclass AND pg_has_role(session_user, s.refobjid, 'MEMBER')
      AND s.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())
      AND s.classid NOT IN ('pg_namespace'::regclass, 'pg_default_acl'::regclass)
) f (classid, objid), pg_identify_object(f.classid, f.objid, 0) i
WHERE NOT EXISTS (SELECT FROM pg_shdepend o
  WHERE o.classid = f.classid AND o.objid = f.objid AND o.deptype = 'o' AND o.refclassid = 'pg_authid'::regclass
    AND o.refobjid = (SELECT r.oid FROM pg_roles r WHERE r.rolname = session_user)
    AND o.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()));
"""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """`relation`: schema and name of the relation that it is, or is a part of. `rows`: it has some of its own, or
    could. `mine`: it is the account's, that is not another role's or an administrator's."""

    catalogue: int
    number: int
    type: str
    identity: str
    relation: tuple[str, str] | None
    rows: bool
    mine: bool

    @property
    def label(self) -> str:
        return f"{self.type} {self.identity}".encode("utf-8", "surrogateescape").decode("utf-8", "replace")[:200]


def entries(answer: bytes) -> list[CatalogueEntry]:
    """Of what CATALOGUE prints."""
    return [
        CatalogueEntry(catalogue, number, type_, identity, (schema, relation) if relation else None, rows, mine)
        for catalogue, number, type_, identity, schema, relation, rows, mine in json.loads(
            answer.decode("utf-8", "surrogateescape")
        )
        if type_ and identity  # else it has been dropped since: the server looks it up as it is now
    ]


def compare_listing(
    listing: bytes, catalogue: Iterable[CatalogueEntry], excluded: Collection[tuple[str, str]], report: Report
) -> None:
    """Name what is in the catalogue and not in what pg_restore --list prints of a dump. `excluded`: relations that
    were named already."""
    made, filled = set[tuple[int, int]](), set[int]()
    for class_, number, kind in _LISTED.findall(listing):
        made.add((int(class_), int(number)))
        if kind.startswith(b"TABLE DATA"):
            filled.add(int(number))
    for entry in catalogue:
        if entry.relation in excluded:
            continue
        if (entry.catalogue, entry.number) not in made:
            report.lack("not_in_dump", "It is in the database, and the dump does not make it", entry.label)
        elif entry.rows and entry.number not in filled:
            report.lack("not_in_dump", "It is in the database, and the dump has no rows of it", entry.label)


def compare_loaded(
    before: Sequence[CatalogueEntry], loaded: Iterable[CatalogueEntry], excluded: Collection[tuple[str, str]]
) -> list[CatalogueEntry]:
    """What of the account's own was in the snapshot, and is not where its dump was loaded."""
    there = {(entry.type, entry.identity) for entry in loaded}
    return [
        entry
        for entry in before
        if entry.mine and entry.relation not in excluded and (entry.type, entry.identity) not in there
    ]
