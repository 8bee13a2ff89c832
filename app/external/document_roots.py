"""Folders of a foreign archive that are domains' document roots."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from itertools import islice, takewhile

from app.external.inventory import ForeignDomain
from app.external.staged import Staged


def path_in(base: str, path: str) -> str | None:
    """`path` below the folder `base` ("" or with a slash at its end), when it stays there."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    found = (base + "/".join(parts)).rstrip("/")
    return found if found and ".." not in parts else None


def folder_in(staged: Staged, base: str, path: str) -> str | None:
    """The same, when it is a folder of the archive; a link to one is none."""
    folder = path_in(base, path)
    return folder if folder is not None and staged.is_folder(folder) else None


def _starting(names: list[str], prefix: str) -> list[str]:
    """Of names in order."""
    return list(takewhile(lambda name: name.startswith(prefix), islice(names, bisect(names, prefix), None)))


def measure(staged: Staged, domains: Iterable[ForeignDomain]) -> None:
    """Count each domain's files without those of other domains' document roots in it."""
    measured = [found for found in domains if found.document_root is not None]
    roots = sorted({found.document_root or "" for found in measured})
    for found in measured:
        prefix = f"{found.document_root}/"
        inside = _starting(roots, prefix)
        found.excluded = [root for root in inside if not any(root.startswith(f"{other}/") for other in inside)]
        for item in staged.below(found.document_root or ""):
            if item.type in "fh" and not any(item.name.startswith(f"{folder}/") for folder in found.excluded):
                found.files += 1
                found.bytes += staged.size(item)
