"""Making a PostgreSQL database and its role."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.components.base import Report
from app.components.creation import Missing, NewDatabase
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.components.postgresql_sql import identifier, literal
from app.deployments.base import Deployment
from app.errors import ComponentError, DatabaseNotFound, LoadFailed

_LOCALE = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_ROUNDS = 4096
#: Which are there wherever nobody has dropped them.
_MAINTENANCE = ("postgres", "template1")


class NewPostgresql(NewDatabase):
    def __init__(self, deployment: Deployment, target: PostgresqlTarget, admin: tuple[str, str | None]) -> None:
        """`admin`: name and password of a role that may make databases and roles."""
        self._target = target
        self._admins = [
            _Administrator(deployment, replace(target, name=name, username=admin[0], password=admin[1]))
            for name in _MAINTENANCE
        ]

    async def missing(self) -> Missing:
        name, role = literal(self._target.name), literal(self._target.username)
        answer = await self._ask(
            f"SELECT json_build_array(NOT EXISTS (SELECT FROM pg_database WHERE datname = {name}), "
            f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {role}));"
        )
        return Missing(*json.loads(answer))

    async def make(self, facts: Mapping[str, Any], report: Report) -> None:
        """The database is owned by the role, and only that may connect to it."""
        missing, name, role = await self.missing(), identifier(self._target.name), identifier(self._target.username)
        if missing.account:
            kept = literal(scram(self._target.password or ""))
            await self._ask(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {kept};")
        if missing.database:
            await self._make_database(facts, report)
        elif not await self._is_owned():
            raise LoadFailed(f"Somebody else has made a database {self._target.name} meanwhile; it is as it was")
        await self._as_owner(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC")

    async def _make_database(self, facts: Mapping[str, Any], report: Report) -> None:
        name, role = identifier(self._target.name), identifier(self._target.username)
        make = f"CREATE DATABASE {name} OWNER {role} TEMPLATE template0"
        characters = [str(facts.get(key, "")) for key in ("encoding", "collate", "ctype")]
        if not all(_LOCALE.fullmatch(one) for one in characters):
            await self._as_owner(make)
            return
        encoding, collate, ctype = map(literal, characters)
        try:
            await self._as_owner(f"{make} ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}")
        except ComponentError as error:
            if not re.search("locale|encoding", error.message):
                raise
            report.warn("collation_unknown", f"The server cannot have the dump's locale: {error.message}")
            await self._as_owner(make)

    async def _as_owner(self, sql: str) -> None:
        """Whoever is no superuser must be a member of the role whose database it is."""
        role, me = identifier(self._target.username), "CURRENT_USER"
        if await self._ask("SELECT rolsuper FROM pg_roles WHERE rolname = current_user;") == "t":
            await self._ask(f"{sql};")
            return
        await self._ask(f"GRANT {role} TO {me};\n{sql};\nREVOKE {role} FROM {me};")

    async def remove(self, made: Missing, *, surely_ours: bool) -> None:
        now, name = await self.missing(), identifier(self._target.name)
        if made.database and not now.database:
            if not surely_ours and not await self._is_owned():
                raise LoadFailed(
                    f"There is a database {self._target.name}, and the restore has not made it: it was left as it is"
                )
            version = int(await self._ask("SELECT current_setting('server_version_num');"))
            await self._as_owner(f"DROP DATABASE IF EXISTS {name}{' WITH (FORCE)' if version >= 130000 else ''}")
        if made.account and not now.account:
            await self._ask(f"DROP ROLE IF EXISTS {identifier(self._target.username)};")

    async def _is_owned(self) -> bool:
        found = await self._ask(
            "SELECT count(*) FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba "
            f"WHERE d.datname = {literal(self._target.name)} AND r.rolname = {literal(self._target.username)};"
        )
        return found == "1"

    async def _ask(self, sql: str) -> str:
        """Raises the database's errors, typed."""
        first, second = self._admins
        try:
            return await first.told(sql)
        except DatabaseNotFound:
            return await second.told(sql)


class _Administrator(PostgresqlComponent):
    """Of whom only the way to the server is used."""

    async def told(self, sql: str) -> str:
        safe = "SET search_path = pg_catalog;\nSET standard_conforming_strings = on;\n"
        return (await self.answer(safe + sql)).decode().strip()


def scram(password: str) -> str:
    """What the server keeps of a password, made here: no statement holds it, so no log does (RFC 5803)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)

    def keyed(what: bytes) -> bytes:
        return hmac.digest(salted, what, "sha256")

    stored = hashlib.sha256(keyed(b"Client Key")).digest()
    salt_, stored_, server_ = (base64.b64encode(one).decode() for one in (salt, stored, keyed(b"Server Key")))
    return f"SCRAM-SHA-256${_ROUNDS}:{salt_}${stored_}:{server_}"
