"""The content of a Plesk backup: archives that `cid` elements name, and where what they hold is to be found.

Source: the cid and content-file elements of Plesk's migration-dump. `path`: a folder, below that of the XML or of
the archive; `offset`: the folder in the content's archive in which it begins.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.errors import ArchiveEncrypted, FormatUnsupported
from app.external.containers import sniff
from app.external.document_roots import folder_in, path_in
from app.external.formats.base import Expand, inside, opened
from app.external.inventory import Problem
from app.external.items import Item, shown
from app.external.staged import Staged
from app.external.xml import Element


class PleskContent:
    """`folder`: of the XML. `root`: of the archive; both "" or with a slash at their end."""

    def __init__(self, staged: Staged, root: str, folder: str, expand: Expand) -> None:
        self.staged = staged
        self._bases = list(dict.fromkeys((folder, root)))
        self._expand = expand

    def files(self, cid: Element) -> Iterator[tuple[str, Item | None]]:
        """Each archive of a content by its name; None: it is not there."""
        for file in cid.all("content-file"):
            name = f"{cid.get('path')}/{file.text.strip()}".replace("\\", "/")
            found = (self._member(base, name) for base in self._bases)
            yield name.strip("/")[:500], next((item for item in found if item is not None), None)

    def _member(self, base: str, name: str) -> Item | None:
        path = path_in(base, name)
        item = self.staged.get(path) if path is not None else None
        return item if item is not None and item.type == "f" else None

    def tree(self, cids: list[Element], into: str | None = None) -> tuple[str | None, Problem | None]:
        """The folder in which the contents of some archives lie together, one over the other; `into`: the folder."""
        problem = None
        for cid in cids:
            for name, item in self.files(cid):
                if item is None:
                    problem = problem or _missing(name)
                    continue
                into = inside(item) if into is None else into
                problem = problem or opened(self._expand, item, into)
        if into is None:
            return None, problem
        for cid in cids:
            offset = cid.get("offset").replace("\\", "/").strip("/")
            if offset and (below := folder_in(self.staged, f"{into}/", offset)) is not None:
                return below, problem
        return into, problem

    def dump(self, cid: Element) -> tuple[Item | None, Problem | None]:
        """The one file in the archive of a database's dump, or the dump itself."""
        for name, item in self.files(cid):
            if item is None:
                return None, _missing(name)
            try:
                if sniff(self.staged.head(item)) == "data":
                    return item, None
            except (ArchiveEncrypted, FormatUnsupported) as error:
                return None, (error.code, f"{shown(item.path)}: {error.message}")
            problem = opened(self._expand, item)
            if problem is not None:
                return None, problem
            dumps = [found for found in self.staged.below(inside(item)) if found.type == "f"]
            if len(dumps) != 1:
                return None, (
                    "archive_invalid",
                    f"{shown(item.path)} holds {len(dumps)} files where one dump should be",
                )
            return dumps[0], None
        return None, None


def _missing(name: str) -> Problem:
    return "archive_invalid", f"{name} is named in the backup and is not in the archive"
