"""Names in foreign archives that may become names of ours."""

from __future__ import annotations

import re
from typing import Any

from app.idn import to_ascii

_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{1,62}")
_LOCAL = re.compile(r"[^\s/@\\\x00-\x20\x7f.-][^\s/@\\\x00-\x20\x7f]{0,63}")


def domain_name(value: Any) -> str | None:
    """A name that a domain of ours may have; not one that cPanel made for itself, and no wildcard."""
    name = str(value).lower() if isinstance(value, str) else ""
    if not name.isascii():
        try:
            name = to_ascii(name)
        except ValueError:
            return None
    return name if len(name) <= 253 and _DOMAIN.fullmatch(name) and not name.endswith(".cpanel.site") else None


def local_part(value: str) -> str | None:
    """The part before an address' @, when it can name a folder."""
    return value if _LOCAL.fullmatch(value) else None


def address(value: str) -> tuple[str, str] | None:
    """A mailbox' local part and its domain."""
    local, _, domain = value.rpartition("@")
    name = domain_name(domain)
    return (local, name) if name is not None and local_part(local) is not None else None
