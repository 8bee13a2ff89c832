"""The contract of every foreign format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import ForeignArchiveError, ImportLimitExceeded
from app.external.inventory import Inventory, Problem
from app.external.items import Item
from app.external.staged import Staged

#: Index what is in a nested archive below a folder.
Expand = Callable[[Item, str], None]


def inside(item: Item) -> str:
    """The folder for what is in a nested archive: no member of an archive can have its name."""
    return f"{item.name}/."


def opened(expand: Expand, item: Item, into: str | None = None) -> Problem | None:
    """Look into a nested archive; `into`: where, else `inside` it. What is wrong with it is wrong with its own parts
    only, and returned; a limit that is passed ends the import (ImportLimitExceeded)."""
    try:
        expand(item, inside(item) if into is None else into)
    except ImportLimitExceeded:
        raise
    except ForeignArchiveError as error:
        return error.code, error.message
    return None


@dataclass(frozen=True, slots=True)
class Match:
    """`marker`: by a simplified layout's marker only; it counts when no format is sure. `decides`: whatever else may
    fit, since what it was found by is not in the hands of the site's owner."""

    reason: str
    marker: bool = False
    decides: bool = False


class Format(ABC):
    """Knows one panel's backups. Blocking; looks at the index and at small members, never at the file system."""

    name: str

    @abstractmethod
    def sniff(self, staged: Staged, root: str) -> Match | None:
        """Whether the archive is one of these, by what lies at its root level, and why."""

    @abstractmethod
    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        """What the archive holds. `domain`: the name for one that has no metadata. `root`: the folder in which
        everything lies, "" or with a slash at its end.

        Raises InvalidRequest when a domain is needed and not given, FormatUnsupported, ArchiveInvalid.
        """

    def password_hashes(self, staged: Staged, root: str, inventory: Inventory) -> dict[str, str]:
        """By mailbox, as crypt(3) makes them; asked for when the caller may have them, and kept nowhere else."""
        return {}
