"""ExternalBackupParser: from a foreign archive's bytes to what it holds. Formats are named here and nowhere else."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.archives.streams import ByteStream, SourceReader, consume
from app.errors import FormatAmbiguous, FormatUnknown
from app.external.formats.base import Format, Match
from app.external.formats.cpanel import CpanelFormat
from app.external.formats.plesk import PleskFormat
from app.external.formats.virtualmin import VirtualminFormat
from app.external.inventory import Inventory
from app.external.limits import Budget, Limits
from app.external.staged import Staged, shown
from app.external.unpack import Unpacker

FORMATS: dict[str, Format] = {found.name: found for found in (CpanelFormat(), VirtualminFormat(), PleskFormat())}
_STAGED = "staged"


class ExternalBackupParser:
    """Reads one archive into `folder`, which the caller removes; what an attempt has read whole is used again."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.staged = Staged(folder, limits.reserve)
        self._budget = Budget(limits)

    def close(self) -> None:
        self.staged.close()

    @property
    def ready(self) -> bool:
        """Whether the archive has been read to its end."""
        return self.staged.fact(_STAGED) is not None

    async def stage(self, source: ByteStream) -> None:
        """Read the archive to its last byte. Closes `source`. Raises ForeignArchiveError and what `source` raises."""
        self.staged.clear()

        def work(reader: SourceReader) -> None:
            Unpacker(self.staged, self._budget).unpack(reader)
            for _ in reader.chunks():  # what a tool has padded with; and the source's own end
                pass
            self.staged.mark(_STAGED, "whole")

        await consume(source, work, "foreign archive")

    def read(self, format: str | None, domain: str | None) -> Inventory:
        """Find out what made the archive, unless `format` says so, and what is in it. Blocking.

        Raises ForeignArchiveError, InvalidRequest.
        """
        root = root_of(self.staged)
        name, reason = (format, "named in the request") if format is not None else detect(self.staged, root)
        unpacker = Unpacker(self.staged, self._budget)
        found = FORMATS[name].read(self.staged, root, domain, unpacker.expand)
        self.staged.commit()  # parts are read over connections of their own
        found.reason = reason
        found.warnings += self.staged.warnings
        if self.staged.left_out > len(self.staged.warnings):
            found.warnings.append(f"{self.staged.left_out} members in all were left out")
        return found

    def password_hashes(self, inventory: Inventory) -> dict[str, str]:
        """Of mailboxes, by address. Blocking."""
        return FORMATS[inventory.format].password_hashes(self.staged, root_of(self.staged), inventory)


def root_of(staged: Staged) -> str:
    """The one folder in which everything lies, with a slash; "" when there are several names at the top."""
    names = staged.names()
    if len(names) != 1:
        return ""
    top = names[0].decode("utf-8", "surrogateescape")
    return f"{top}/" if staged.is_folder(top) else ""


def detect(staged: Staged, root: str) -> tuple[str, str]:
    """The format's name, and why. Raises FormatAmbiguous, FormatUnknown."""
    places = dict.fromkeys([root, ""])
    found: dict[str, Match] = {}
    for name, format in FORMATS.items():
        for place in places:
            if (match := format.sniff(staged, place)) is not None:
                found.setdefault(name, match)
    sure = {name: match for name, match in found.items() if not match.marker} or found
    if len(sure) == 1:
        [(name, match)] = sure.items()
        return name, match.reason
    if sure:
        listed = "; ".join(f"{name} ({match.reason})" for name, match in sure.items())
        raise FormatAmbiguous(f"More than one format fits: {listed}. Name the format in the request")
    names = ", ".join(name.decode("utf-8", "replace") for name in staged.names(root.rstrip("/"))[:10])
    raise FormatUnknown(
        f"Nothing tells which panel made this archive; at its top are: {names or 'no members'}. If you know it, name "
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
    return shown(value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else value
