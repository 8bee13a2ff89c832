"""Loading a stored dump of PostgreSQL into a scratch database, as a restore would, to see that it can be."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, Self

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Proof, Report, RestoreContext
from app.components.postgresql_catalogue import CATALOGUE, GIVEN, CatalogueEntry, compare_loaded, entries
from app.components.postgresql_dump import ListedDump
from app.components.postgresql_snapshot import COUNT, PLAIN, counted, gathered
from app.components.postgresql_sql import identifier, literal
from app.components.server_disk import free_bytes
from app.deployments.base import Deployment
from app.errors import ComponentError, DeploymentError, LoadFailed, ProofImpossible

KEY = "postgresql"
#: Databases are made and removed with a checkpoint.
_SLOW_SECONDS = 600
#: No resources, stopped by somebody, a system's error, no connection, a lock that was not had: see PostgreSQL's
#: appendix A; and what a lost connection looks like.
_SERVERS = re.compile(r"\((?:53|57|58|08)[0-9A-Z]{3}\)|\(55P03\)|connection to server|the connection was lost")

#: First of every script of an administrator's: the database's own settings are its owner's to choose, and with them
#: which functions a name means, and where a literal ends.
_TRUSTED = "SET search_path = '';\nSET standard_conforming_strings = on;\n"
#: What a database beside the live one must have of it.
_LIKE = """SELECT json_build_object('encoding', pg_encoding_to_char(d.encoding), 'database', to_jsonb(d),
  'super', (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user),
  'path', (SELECT substr(c.setting, 13) FROM pg_db_role_setting s, unnest(s.setconfig) c (setting)
    WHERE s.setdatabase = d.oid AND s.setrole = 0 AND c.setting LIKE 'search_path=%' LIMIT 1),
  'extensions', (SELECT coalesce(json_agg(json_build_array(e.extname, n.nspname, pg_get_userbyid(n.nspowner),
      e.extversion)
      ORDER BY e.oid), '[]')
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'))
FROM pg_database d WHERE d.datname = current_database();
"""


class Account(Protocol):
    """One account's way into one database."""

    def on(self, database: str) -> Self: ...

    async def answer(self, sql: str, seconds: float = 60) -> bytes: ...

    def printed_of(self, script: ByteStream) -> ByteStream: ...

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report: ...


class PostgresqlProof(Proof):
    """`database`: the live one; `host`: where its server is; `user`: who owns it."""

    def __init__(
        self,
        deployment: Deployment,
        host: str | None,
        database: str,
        user: str,
        owner: Account,
        admin: Account,
        dump: ListedDump,
    ) -> None:
        self._deployment = deployment
        self._host = host
        self._database = database
        self._user = user
        self._owner = owner
        self._admin = admin
        self._dump = dump

    async def room(self) -> int | None:
        sql = "SELECT setting FROM pg_settings WHERE name = 'data_directory';"  # no row: it may not know
        folder = (await self._admin.answer(_TRUSTED + sql)).decode("utf-8", "replace").strip()
        return await free_bytes(self._deployment, self._host, folder)

    async def load(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        report = Report()
        scratch = f"liberu-proof-{secrets.token_hex(8)}"
        async with aclosing(source):
            try:
                rows = await self._dump.rows()
                await context.record({KEY: {"scratch": scratch}, "tidy": True})
                await self._make(scratch)
                await self._owner.on(scratch).restore(source, context, plain_size)
            except LoadFailed as error:
                told = error.message.removeprefix(f"{scratch}: ").removesuffix("; nothing was changed")
                await self._blame(told, error)
                report.lack("not_loadable", f"The dump does not load: {told}", self._database)
                return report
            except (ComponentError, DeploymentError) as error:
                raise ProofImpossible(error.message.replace(scratch, "the scratch database")) from error
        try:
            await self._compare(scratch, rows, report)
        except (ComponentError, DeploymentError) as error:
            raise ProofImpossible(error.message) from error
        return report

    async def close(self) -> None:
        await self._dump.close()

    async def _make(self, scratch: str) -> None:
        """Nobody but the administrator can enter it before its extensions are made: their scripts run as that one."""
        like: dict[str, Any] = json.loads(
            (await self._admin.answer(_TRUSTED + _LIKE)).decode("utf-8", "surrogateescape")
        )
        shut = " CONNECTION LIMIT 0" if like["super"] else ""
        name = identifier(scratch)
        await self._admin.answer(
            f"{_TRUSTED}CREATE DATABASE {name} TEMPLATE template0 ENCODING {literal(like['encoding'])} "
            f"{_locale(like['database'])}{shut};\n"
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n",
            _SLOW_SECONDS,
        )
        script = ""
        for extension, schema, owner, number in like["extensions"]:
            if schema not in ("public", "pg_catalog"):
                script += f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)} AUTHORIZATION {identifier(owner)};\n"
            script += (
                f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)} SCHEMA {identifier(schema)} "
                f"VERSION {literal(number)} CASCADE;\n"
            )
        if script:
            await self._admin.on(scratch).answer(_TRUSTED + script, _SLOW_SECONDS)
        await self._admin.answer(
            f"{_TRUSTED}ALTER DATABASE {name} OWNER TO {identifier(self._user)};\n"
            f"ALTER DATABASE {name} CONNECTION LIMIT -1;\n"
        )
        if like["path"] is not None:
            await self._owner.on(scratch).answer(
                "SET standard_conforming_strings = on;\n"
                f"SELECT pg_catalog.set_config('search_path', {literal(like['path'])}, false) AS path \\gset\n"
                f"ALTER DATABASE {name} SET search_path FROM CURRENT;\n"
            )

    async def _blame(self, told: str, error: LoadFailed) -> None:
        """Raises ProofImpossible when it need not be the dump: the server could not, or what an administrator has
        made or given may be needed, which is in the live database and not here."""
        if _SERVERS.search(told):
            raise ProofImpossible(told) from error
        try:
            given = await self._owner.answer(PLAIN + GIVEN)
        except (ComponentError, DeploymentError) as gone:
            raise ProofImpossible(gone.message) from error
        others = [one.label for one in self._dump.objects if not one.mine and one.type not in ("extension", "schema")]
        for line in given.decode("utf-8", "replace").splitlines():
            others += json.loads(line)
        if others:
            raise ProofImpossible(
                f"it does not load alone ({told}), and the database has what is not {self._user}'s, which may be "
                f"needed for it: {', '.join(others[:3])}"
            ) from error

    async def _compare(self, scratch: str, rows: Mapping[int, int], report: Report) -> None:
        inside = self._owner.on(scratch)
        listed = await gathered(inside.printed_of(from_bytes((PLAIN + CATALOGUE).encode())))
        loaded = entries(listed)
        for gone in compare_loaded(self._dump.objects, loaded, self._dump.excluded):
            report.lack(
                "not_loadable", "It was in the database, and is not there once the dump is loaded", gone.label
            )
        counts = counted(await gathered(inside.printed_of(from_bytes((PLAIN + COUNT).encode()))))
        found = _by_table(loaded, counts)
        for relation, (table, wanted) in _by_table(self._dump.objects, rows).items():
            there = found.get(relation, (table, wanted))[1]
            if relation not in self._dump.excluded and wanted != there:
                report.lack(
                    "rows_differ", f"The database had {wanted} rows of it, and {there} were loaded", table.label
                )


def _by_table(
    objects: Iterable[CatalogueEntry], counts: Mapping[int, int]
) -> dict[tuple[str, str] | None, tuple[CatalogueEntry, int]]:
    """Those that were counted."""
    return {
        entry.relation: (entry, counts[entry.number])
        for entry in objects
        if entry.type == "table" and entry.number in counts
    }


async def drop_scratch(admin: Account, scratch: str) -> None:
    """Idempotent."""
    name, text = identifier(scratch), literal(scratch)
    await admin.answer(
        f"{_TRUSTED}SELECT current_setting('server_version_num')::int >= 130000 AS forced \\gset\n"
        f"SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity WHERE datname = {text} \\gset\n"
        f"\\if :forced\nDROP DATABASE IF EXISTS {name} WITH (FORCE);\n"
        f"\\else\nDROP DATABASE IF EXISTS {name};\n\\endif\n",
        _SLOW_SECONDS,
    )


def _locale(database: Mapping[str, Any]) -> str:
    """As to_jsonb shows a row of pg_database: the columns differ from version to version."""
    parts = [f"LC_COLLATE {literal(database['datcollate'])} LC_CTYPE {literal(database['datctype'])}"]
    locale = database.get("datlocale") or database.get("daticulocale")
    provider = {"i": "icu", "b": "builtin"}.get(database.get("datlocprovider", ""))
    if provider and locale:
        parts.append(f"LOCALE_PROVIDER {provider} {provider.upper()}_LOCALE {literal(locale)}")
    return " ".join(parts)
