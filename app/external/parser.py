"""ExternalBackupParser: from a foreign archive's bytes to what it holds. Formats are named here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from app.archives.streams import CHUNK
from app.errors import FormatAmbiguous, FormatUnknown, FormatUnsupported, ImportLimitExceeded
from app.external.containers import Readable
from app.external.formats.base import Format, Match
from app.external.formats.cpanel import CpanelFormat
from app.external.formats.others import unsupported
from app.external.formats.plesk import PleskFormat
from app.external.formats.virtualmin import VirtualminFormat
from app.external.inventory import MAX_PARTS, Inventory
from app.external.items import shown
from app.external.limits import NOTHING, Budget, Limits
from app.external.staged import Staged
from app.external.unpack import Unpacker

FORMATS: dict[str, Format] = {found.name: found for found in (CpanelFormat(), VirtualminFormat(), PleskFormat())}

_MAX_WARNINGS = 1000


class ExternalBackupParser:
    """Reads one archive into `folder`, which the caller removes; what an attempt has read whole is used again.
    Blocking, and fed with whatever strangers have made: see ArchiveReader.

    `allowed`: as of Budget."""

    def __init__(self, folder: Path, limits: Limits, allowed: Callable[[float], None] | None = None) -> None:
        self.staged = Staged(folder, limits.reserve)
        counted = self.staged.counted if self.staged.sealed else NOTHING
        self._budget = Budget(limits, counted=counted, allowed=allowed)
        self.staged.tick = lambda _: self._budget.tick()  # reading it again explains no more time

    def close(self) -> None:
        self.staged.close()

    def stage(self, source: Readable) -> None:
        """Read the archive to its last byte. Raises ForeignArchiveError, NoSpace, and what `source` raises."""
        self.staged.begin()
        Unpacker(self.staged, self._budget).unpack(source)
        while source.read(CHUNK):  # what a tool has padded with; and the source's own end
            self._budget.tick()
        self.staged.keep_count(self._budget.counted)
        self.staged.seal()

    def read(self, format: str | None, domain: str | None) -> Inventory:
        """Find out what made the archive, unless `format` says so, and what is in it.

        Raises ForeignArchiveError, InvalidRequest.
        """
        name, root, reason = detect(self.staged, format)
        unpacker = Unpacker(self.staged, self._budget)
        found = FORMATS[name].read(self.staged, root, domain, unpacker.expand)
        self.staged.keep_count(self._budget.counted)  # and commit: parts are read over connections of their own
        found.reason = reason
        found.warnings += self.staged.warnings
        _bounded(found)
        return found

    def password_hashes(self, inventory: Inventory) -> dict[str, str]:
        """Of mailboxes, by address."""
        _, root, _ = detect(self.staged, inventory.format)
        return FORMATS[inventory.format].password_hashes(self.staged, root, inventory)


def _bounded(inventory: Inventory) -> None:
    """It is kept with the operation and shown whole. Raises ImportLimitExceeded."""
    parts = sum(1 + len(found.databases) + len(found.mailboxes) for found in inventory.domains)
    if parts > MAX_PARTS or len(inventory.must_reset) > 2 * MAX_PARTS:
        raise ImportLimitExceeded(f"The archive holds more than {MAX_PARTS} domains, databases and mailboxes")
    if len(inventory.warnings) > _MAX_WARNINGS:
        more = len(inventory.warnings) - _MAX_WARNINGS
        inventory.warnings[_MAX_WARNINGS:] = [f"… and {more} more"]


def places_of(staged: Staged) -> list[str]:
    """Where a format's members may lie: in the one folder at the top, when everything is in it, else at the top."""
    names = list(islice(staged.names(), 2))
    top = names[0] if len(names) == 1 else ""
    return [f"{top}/", ""] if top and staged.is_folder(top) else [""]


def detect(staged: Staged, format: str | None) -> tuple[str, str, str]:
    """The format's name, the folder that it lies in, and why. `format`: the one that was asked for.

    Raises FormatAmbiguous, FormatUnsupported, FormatUnknown.
    """
    places = places_of(staged)
    found: dict[str, tuple[str, Match]] = {}
    for name in FORMATS if format is None else [format]:
        for place in places:
            match = FORMATS[name].sniff(staged, place)
            if match is not None and (name not in found or found[name][1].marker):
                found[name] = place, match
    sure = {name: where for name, where in found.items() if not where[1].marker}
    if not sure and (format is None or not found):
        for place in places:
            if (known := unsupported(staged, place)) is not None:
                raise FormatUnsupported(known)
    if format is not None:
        return format, found[format][0] if found else places[0], "named in the request"
    deciding = {name: where for name, where in found.items() if where[1].decides}
    sure = deciding or sure or found
    if len(sure) == 1:
        [(name, (place, match))] = sure.items()
        return name, place, match.reason
    if sure:
        listed = "; ".join(f"{name} ({match.reason})" for name, (_, match) in sure.items())
        raise FormatAmbiguous(f"More than one format fits: {listed}. Name the format in the request")
    if next(staged.names(), None) is None:
        raise FormatUnknown("The archive is empty: there is no member in it that could be imported")
    names = ", ".join(shown(name) for name in islice(staged.names(places[0].rstrip("/")), 10))
    raise FormatUnknown(
        f"Nothing tells which panel made this archive; at its top are: {names}. If you know it, name "
        "the format in the request"
    )


def as_json(value: Any) -> Any:
    """An inventory for people and JSON: names that are no UTF-8 are spelled out."""
    if isinstance(value, Inventory):
        return as_json(asdict(value))
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return shown(value) if isinstance(value, str) else value
