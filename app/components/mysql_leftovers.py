"""What a restore beside the live database makes on the server: names for it, and its removal."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from app.components.mysql_client import MysqlClient, identifier, literal

#: "There is no such grant", and the same of an account that is gone.
_NO_GRANT = ("1141", "1147", "1133", "1269")


@dataclass(frozen=True, slots=True)
class ScratchNames:
    """`tag` is new for each time a restore begins, so that nothing of an earlier one is taken for it. `mark`: see
    MysqlClient."""

    tag: str
    owner_user: str
    owner_host: str
    host: str
    mark: str

    @classmethod
    async def new(cls, owner: MysqlClient, admin: MysqlClient) -> ScratchNames:
        tag = secrets.token_hex(8)
        user, owner_host = await _account(owner)
        _, host = await _account(admin)
        return cls(tag, user, owner_host, host, await admin.markable(f"liberu-{tag}"))

    @classmethod
    def of(cls, noted: dict[str, Any]) -> ScratchNames:
        return cls(**{key: noted[key] for key in ("tag", "owner_user", "owner_host", "host", "mark")})

    @property
    def scratch(self) -> str:
        return f"liberu-new-{self.tag}"  # no underscore: a wildcard in GRANT

    @property
    def old(self) -> str:
        return f"liberu-old-{self.tag}"

    @property
    def user(self) -> str:
        return f"liberu-{self.tag}"

    @property
    def marker(self) -> str:
        return f"liberu-{self.tag}"

    @property
    def temporary(self) -> str:
        return f"{identifier(self.user)}@{identifier(self.host)}"

    @property
    def owner(self) -> str:
        return f"{identifier(self.owner_user)}@{identifier(self.owner_host)}"

    @property
    def definer(self) -> str:
        return f"{self.owner_user}@{self.owner_host}"


async def _account(client: MysqlClient) -> tuple[str, str]:
    rows = await client.ask("SELECT CURRENT_USER();", database=False)
    user, _, host = rows[0][0].rpartition("@")
    return user, host


async def remove_leftovers(
    admin: MysqlClient, names: ScratchNames, *, with_old: bool, databases: bool = True
) -> None:
    """`with_old`: it holds no table that is needed; else it stays while it holds any. Idempotent."""
    admin = admin.marked(names.mark)
    await admin.alone()
    script = "SET FOREIGN_KEY_CHECKS = 0;\n"
    if databases:
        rows = await admin.ask(
            "SELECT COUNT(*) FROM information_schema.TABLES "
            f"WHERE TABLE_SCHEMA = {literal(names.old)} AND TABLE_NAME <> {literal(names.marker)};",
            database=False,
        )
        script += f"DROP DATABASE IF EXISTS {identifier(names.scratch)};\n"
        script += f"DROP DATABASE IF EXISTS {identifier(names.old)};\n" if with_old or rows == [["0"]] else ""
    await admin.ask(f"{script}DROP USER IF EXISTS {names.temporary};\n", database=False)
    for database in (names.scratch, names.old):
        revoked = await admin.execute(f"REVOKE ALL ON {identifier(database)}.* FROM {names.owner};", database=False)
        if revoked.status != 0 and not any(f"ERROR {number}" in revoked.stderr for number in _NO_GRANT):
            raise admin.explained(revoked.stderr)
