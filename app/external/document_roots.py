"""Folders of a foreign archive that are domains' document roots."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from app.external.inventory import ForeignDomain, Problem
from app.external.items import key, text
from app.external.staged import Staged

#: As the system has it (path_resolution(7)).
_MAX_LINKS = 40


def path_in(base: str, path: str) -> str | None:
    """`path` below the folder `base` ("" or with a slash at its end), when it stays there."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    found = (base + "/".join(parts)).rstrip("/")
    return found if found and ".." not in parts else None


def folder_in(staged: Staged, base: str, path: str, homes: Sequence[str] = ()) -> str | None:
    """The same, when it is a folder of the archive. Symbolic links are followed as far as they stay below `base`;
    `homes`: what that was called where the archive comes from, as absolute links have it."""
    if path_in(base, path) is None:
        return None
    here, pending, links = list[str](), path.split("/")[::-1], 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return None
            here.pop()
            continue
        item = staged.get(base + "/".join([*here, part]))
        if item is None or item.type != "l":
            here.append(part)
            continue
        links += 1
        target = text(item.link)
        if target.startswith("/"):
            home = next((home for home in homes if target == home or target.startswith(f"{home}/")), None)
            if home is None:
                return None
            here, target = [], target[len(home) :]
        if links > _MAX_LINKS:
            return None
        pending += target.split("/")[::-1]
    found = base + "/".join(here)
    return found if here and staged.is_folder(found) else None


def lacking(staged: Staged, name: str, base: str, path: str) -> Problem:
    """Why a domain's document root was not found."""
    item = staged.get(path_in(base, path) or "")
    why = "is not in the archive"
    if item is not None and item.type == "l":
        why = f"is a symbolic link to {text(item.link)[:200]!r}, and no folder in the archive is there"
    return "not_found", f"{name}: its document root {path[:200]!r} {why}"


class Folders:
    """Some folders, none of which lies in another, and what lies in them."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._starts = sorted(key(folder) + b"/" for folder in folders)

    def hold(self, path: bytes) -> bool:
        name = path + b"/"
        at = bisect_right(self._starts, name)
        return at > 0 and name.startswith(self._starts[at - 1])


def measure(staged: Staged, domains: Iterable[ForeignDomain]) -> None:
    """Count each domain's files without those of other domains' document roots in it."""
    measured = [found for found in domains if found.document_root is not None]
    starts = sorted({f"{found.document_root}/" for found in measured})
    known = dict[str, ForeignDomain]()
    for found in measured:
        root = found.document_root or ""
        if (same := known.setdefault(root, found)) is not found:
            found.excluded, found.files, found.bytes = same.excluded, same.files, same.bytes
            continue
        found.excluded = _outermost(starts, f"{root}/")
        others = Folders(found.excluded)
        for item in staged.below(root):
            if item.type in "fh" and not others.hold(item.path):
                found.files += 1
                found.bytes += staged.size(item)


def _outermost(starts: Sequence[str], prefix: str) -> list[str]:
    """Of folders in order, each with a slash at its end: those below `prefix` that are in no other of them."""
    found = list[str]()
    for at in range(bisect_left(starts, prefix) + 1, len(starts)):
        start = starts[at]
        if not start.startswith(prefix):
            break
        if not found or not start.startswith(f"{found[-1]}/"):
            found.append(start[:-1])
    return found
