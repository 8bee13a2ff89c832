"""Where in its server's binary log a dump is: what comes after it there can be replayed over it."""

from __future__ import annotations

import re
from typing import Any

from app.components.mysql_client import MysqlClient, literal
from app.errors import ComponentError, DeploymentError

#: What MariaDB's program writes near the beginning, as a comment (--master-data=2).
_WRITTEN = re.compile(
    rb"^-- CHANGE MASTER TO MASTER_LOG_FILE='([^'\n]{1,255})', MASTER_LOG_POS=(\d{1,18});", re.MULTILINE
)
_HEAD = 64 << 10
#: A set of many servers' transactions; a longer one is not kept.
_LONGEST = 16 << 10


class DumpPosition:
    """MariaDB tells the position of a session's own snapshot to any account, and its dump program writes it down:
    that is `exact`. Elsewhere only a lock on all tables of the server would make it so: it is asked right before the
    dump begins, where the account may ask. Nothing of the log is missing from there on; its beginning may be in the
    dump already."""

    def __init__(self, client: MysqlClient) -> None:
        self._client = client
        self._head: bytes | None = None
        self._before: dict[str, Any] = {}

    async def begin(self, *, mariadb: bool) -> list[str]:
        """What to tell the dump program. `mariadb`: it and the server are MariaDB's."""
        if mariadb and await self._rows("SHOW STATUS WHERE Variable_name = 'binlog_snapshot_file' AND Value <> '';"):
            self._head = b""
            return ["--master-data=2"]
        for statement in ("SHOW BINARY LOG STATUS;", "SHOW MASTER STATUS;"):
            if rows := await self._rows(statement):
                self._before = {"file": rows[0][0], "offset": int(rows[0][1])}
                break
        for variable in ("gtid_executed", "gtid_binlog_pos"):
            if rows := await self._rows(f"SELECT @@GLOBAL.{variable};"):
                self._before |= _gtid(rows)
                break
        return []

    def see(self, chunk: bytes) -> None:
        """Of the dump, as it passes."""
        if self._head is not None and len(self._head) < _HEAD:
            self._head += chunk[:_HEAD]

    async def found(self) -> dict[str, Any] | None:
        """After the dump."""
        if self._head is None:
            return (
                {"file": None, "offset": None, "gtid": None, **self._before, "exact": False} if self._before else None
            )
        written = _WRITTEN.search(self._head)
        if written is None:
            return None
        file, offset = written[1].decode("utf-8", "replace"), int(written[2])
        rows = await self._rows(f"SELECT BINLOG_GTID_POS({literal(file)}, {offset});")
        return {"file": file, "offset": offset, "gtid": None, **_gtid(rows), "exact": True}

    async def _rows(self, sql: str) -> list[list[str]]:
        """None where the account may not ask, or the server does not know it."""
        try:
            return await self._client.ask(sql, database=False)
        except (ComponentError, DeploymentError):
            return []


def _gtid(rows: list[list[str]]) -> dict[str, str]:
    text = "".join(rows[0][0].split()) if rows else ""
    return {"gtid": text} if text not in ("", "NULL") and len(text) <= _LONGEST else {}
