"""Where a Plesk backup describes its domains: XML at its root, in the domains' folders, or named by an index.

Source: pleskbackup's layout: PREFIX_info_TIME.xml with the root element migration-dump; a server's or client's holds
domain-info only, and each `[resellers/R/][clients/C/]domains/D/` has the XML of its own. An incremental backup is
named PREFIX_info_FULL_TIME.xml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from app.errors import ArchiveInvalid
from app.external.inventory import Problem
from app.external.items import Item
from app.external.names import domain_name
from app.external.object_index import IndexedDomain, indexed_domains
from app.external.staged import Staged
from app.external.xml import Element, Kept, read_xml, root_name

ROOT = "migration-dump"
KEPT = Kept(
    elements=frozenset({
        ROOT, "domain", "domain-info", "site", "phosting", "subdomain", "domain-alias", "mailsystem", "mailuser",
        "database", "dbuser", "cid", "content-file", "password", "sysuser", "certificate", "alias", "dns-zone",
        "webuser", "ftpuser",  # so that their contents and system users are not their subscription's
    }),
    attributes=frozenset({"name", "type", "path", "offset", "www-root", "cgi_bin_mode", "mailbox-quota"}),
    texts=frozenset({"content-file", "alias"}),
)  # fmt: skip
_TIME = re.compile(r"info_(\d{6,14})(?:_(\d{6,14}))?\.xml\Z")
_MAX_FOLDERS = 10_000
_MAX_INDEX = 16 << 20


@dataclass(frozen=True, slots=True)
class Described:
    """A domain's element, and the folder of the XML that it stands in: "" or with a slash at its end."""

    element: Element
    folder: str
    incremental: bool


class Dumps:
    """`warnings`: what is in the archive and is not imported, or is named and not there. `broken`: domains whose own
    description cannot be read, and why."""

    def __init__(self, staged: Staged, root: str, kept: Kept = KEPT) -> None:
        self._staged = staged
        self._root = root
        self._kept = kept
        self._chosen: tuple[str, str] | None = None
        self.warnings: list[str] = []
        self.broken: dict[str, Problem] = {}
        self.left_out: list[str] = []

    def marker(self) -> tuple[Item, bool] | None:
        """The XML at the root that describes the archive, and whether it is one or is only called so: then `domains`
        says what is wrong with it."""
        found = self._descriptions(self._root)
        sure = next((item for item in found if root_name(self._staged.read(item)) == ROOT), None)
        return (sure, True) if sure is not None else (found[0], False) if found else None

    def domains(self) -> Iterator[Described]:
        """Every domain once. Raises ArchiveInvalid, ImportLimitExceeded."""
        seen, named = set[str](), dict[str, None]()
        top = self._choose(self._root, warn=True)
        if top is not None:
            dump = self._read(top)
            named |= dict.fromkeys(filter(None, (domain_name(info.get("name")) for info in dump.deep("domain-info"))))
            yield from self._in(dump, top, self._root, seen)
        for folder in self._folders():
            own = self._choose(folder)
            if own is not None and (described := self._whole(own, folder)) is not None:
                yield from self._in(described, own, folder, seen)
        for entry in self._indexed():
            if entry.name in seen:
                continue
            named[entry.name] = None
            own = self._staged.get(self._root + entry.described) if entry.described else None
            if own is not None and self._is_description(own):
                yield from self._in(self._read(own), own, own.name.removesuffix(own.last), seen)
        for name in named:
            if name not in seen and name not in self.broken:
                self.warnings.append(f"{name}: is named in the backup, and what describes it is not in the archive")

    def _in(self, dump: Element, item: Item, folder: str, seen: set[str]) -> Iterator[Described]:
        for element in dump.deep("domain"):
            name = domain_name(element.get("name"))
            if name is None:
                self.warnings.append(f"{element.get('name')[:200]!r} cannot be a domain here; left out")
            elif name not in seen:
                seen.add(name)
                yield Described(element, folder, bool(_times(item)[1]))

    def _read(self, item: Item) -> Element:
        return read_xml(self._staged.read(item), self._kept, item.path)

    def _whole(self, item: Item, folder: str) -> Element | None:
        """Of a domain's own description; one that is broken is a problem of that domain."""
        name = domain_name(folder.rstrip("/").rpartition("/")[2])
        try:
            return self._read(item)
        except ArchiveInvalid as error:
            if name is None:
                raise
            self.broken[name] = error.code, error.message
            return None

    def _choose(self, folder: str, *, warn: bool = False) -> Item | None:
        """Of several backups in one folder: that of the time chosen at the root, else the newest full one."""
        found = self._descriptions(folder)
        if not found:
            return None
        same = [item for item in found if _times(item) == self._chosen]
        full = [item for item in found if not _times(item)[1]]
        chosen = max(same or full or found, key=_times)
        if warn:
            self._chosen = _times(chosen)
            self.left_out = sorted(item.last for item in found if item is not chosen)
            if _times(chosen)[1]:
                self.warnings.append(
                    f"{chosen.last}: an incremental backup; what has not changed since {_times(chosen)[0]} is in the "
                    "full backup of that time: import that one first. These files are added to what is there, and "
                    "nothing is removed"
                )
            if self.left_out:
                self.warnings.append(
                    f"Of several backups {chosen.last} is imported; left out: {', '.join(self.left_out)}"
                )
        return chosen

    def _descriptions(self, folder: str) -> list[Item]:
        found = [item for item in self._staged.files(folder.rstrip("/")) if self._is_description(item)]
        if not found:
            item = self._staged.get(f"{folder}dump.xml")
            found = [item] if item is not None and root_name(self._staged.read(item)) == ROOT else []
        return found[:_MAX_FOLDERS]

    def _is_description(self, item: Item) -> bool:
        """Whether it is one, or would be if it were not broken."""
        named = item.type == "f" and item.name.endswith(".xml") and "info_" in item.last
        return named and root_name(self._staged.read(item)) in (ROOT, "")

    def _folders(self) -> Iterator[str]:
        owners = [self._root]
        for kind in ("resellers", "clients"):  # resellers have clients
            for owner in list(owners):
                names = islice(self._staged.names(f"{owner}{kind}"), _MAX_FOLDERS)
                owners += [f"{owner}{kind}/{name}/" for name in names]
        for owner in owners[:_MAX_FOLDERS]:
            for name in islice(self._staged.names(f"{owner}domains"), _MAX_FOLDERS):
                yield f"{owner}domains/{name}/"

    def _indexed(self) -> Iterator[IndexedDomain]:
        for name in islice(self._staged.names(f"{self._root}.discovered"), _MAX_FOLDERS):
            text = self._staged.text_of(f"{self._root}.discovered/{name}/object_index", _MAX_INDEX)
            yield from indexed_domains(text)


def _times(item: Item) -> tuple[str, str]:
    """Of the full backup, and of the incremental one that follows it ("" for none)."""
    match = _TIME.search(item.last)
    return (match[1], match[2] or "") if match else ("", "")
