"""Plesk's backups: recognised; reading them is yet to come.

Source: the layout of Plesk's pleskbackup archives, whose metadata is XML with the root element migration-dump.
"""

from __future__ import annotations

import re

from app.errors import FormatUnsupported
from app.external.formats.base import Expand, Format, Match
from app.external.inventory import Inventory
from app.external.staged import Staged

_HEAD = 64 << 10
#: After declarations and comments, the root element; no entity and no document type is ever looked at.
_ROOT = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*)*<migration-dump[\s>/]", re.DOTALL)


class PleskFormat(Format):
    name = "plesk"

    def sniff(self, staged: Staged, root: str) -> Match | None:
        for item in staged.files(root.rstrip("/")):
            name = item.name.removeprefix(root)
            named = name.endswith(".xml") and "info_" in name
            if named and _ROOT.match(next(staged.read(item), b"")[:_HEAD]):
                return Match(f"{name} with the root element migration-dump")
        if staged.get(f"{root}dump.xml") is not None:
            return Match("dump.xml", marker=True)
        for raw in staged.names(root.rstrip("/")):
            if raw.startswith(b"psa_"):
                return Match(raw.decode("utf-8", "replace"), marker=True)
        return None

    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        raise FormatUnsupported("This is a Plesk backup; importing those is not supported yet")
