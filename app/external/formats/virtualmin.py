"""Virtualmin's backups: recognised; reading them is yet to come.

Source: the layout of Virtualmin's home, directory and single-file backups.
"""

from __future__ import annotations

from app.errors import FormatUnsupported
from app.external.formats.base import Expand, Format, Match
from app.external.inventory import Inventory
from app.external.staged import Staged


class VirtualminFormat(Format):
    name = "virtualmin"

    def sniff(self, staged: Staged, root: str) -> Match | None:
        for name in staged.names(f"{root}.backup"):
            if name.endswith(b"_virtualmin"):
                return Match(f".backup/{name.decode('utf-8', 'replace')}")
        names = set(staged.names(root.rstrip("/")))
        for name in names:
            stem = name.removesuffix(b"_virtualmin")
            if stem not in (name, b"virtualmin") and any(
                other.startswith(stem + b"_") and other != name for other in names
            ):
                return Match(name.decode("utf-8", "replace"))
        for marker in ("virtualmin.info", "domain.info"):
            if staged.get(f"{root}{marker}") is not None:
                return Match(marker, marker=True)
        return None

    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        raise FormatUnsupported("This is a Virtualmin backup; importing those is not supported yet")
