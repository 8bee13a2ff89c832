"""Folders of a foreign archive that are domains' document roots."""

from __future__ import annotations

from collections.abc import Iterable

from app.external.inventory import ForeignDomain
from app.external.staged import Staged


def folder_in(staged: Staged, base: str, path: str) -> str | None:
    """`path` below the folder `base` ("" or with a slash at its end) when it stays there and is there."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    folder = (base + "/".join(parts)).rstrip("/")
    return folder if folder and ".." not in parts and staged.exists(folder) else None


def measure(staged: Staged, domains: Iterable[ForeignDomain]) -> None:
    """Count each domain's files without those of other domains' document roots in it."""
    measured = [found for found in domains if found.document_root is not None]
    roots = sorted({found.document_root or "" for found in measured})
    for found in measured:
        prefix = f"{found.document_root}/"
        inside = [root for root in roots if root.startswith(prefix)]
        found.excluded = [root for root in inside if not any(root.startswith(f"{other}/") for other in inside)]
        for item in staged.below(found.document_root or ""):
            if item.type in "fh" and not any(item.name.startswith(f"{folder}/") for folder in found.excluded):
                found.files += 1
                found.bytes += staged.size(item)
