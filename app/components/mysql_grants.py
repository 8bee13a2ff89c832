"""What an account may do outside its own databases, from SHOW GRANTS (MariaDB 10 and later, MySQL 5.7 and 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHOW = "SET SESSION sql_mode = '';\nSHOW GRANTS;"
_ON = re.compile(
    r"GRANT (.+?) ON (?:(?:TABLE|FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) )?"
    r"(?:(\*\.\*)|`((?:[^`]|``)*)`\.\S.*?) TO (.*)",
    re.DOTALL,
)
#: Of all databases: what only looks at the server, or needs another right to do anything.
_HARMLESS = {
    "USAGE", "PROCESS", "SHOW DATABASES", "REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR",
    "LOCK TABLES", "CREATE TEMPORARY TABLES",
}  # fmt: skip


def too_much(grants: Iterable[str]) -> list[str]:
    """What a tenant's SQL must not run with: rights on every database or on `mysql`, and roles, which it could take
    on. PROXY is of logging in alone."""
    found: list[str] = []
    for grant in grants:
        on = _ON.match(grant)
        if on is None:
            if grant.startswith("GRANT ") and not grant.startswith("GRANT PROXY "):
                found.append(f"a role ({grant[6:].partition(' TO ')[0]})")
        elif on[2]:
            rights = {right.strip() for right in on[1].split(",")} - _HARMLESS
            rights |= {"GRANT OPTION"} if "WITH GRANT OPTION" in on[4] else set()
            found += [f"{right} ON *.*" for right in sorted(rights)]
        elif _covers(on[3].replace("``", "`"), "mysql"):
            found.append(f"{on[1]} ON {on[3]}")
    return found


def _covers(pattern: str, database: str) -> bool:
    """As the server compares: % and _ stand for any letters and for one, unless they are escaped."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    expression = "".join(".*" if part == "%" else "." if part == "_" else re.escape(part[-1]) for part in parts)
    return re.fullmatch(expression, database, re.DOTALL | re.IGNORECASE) is not None
