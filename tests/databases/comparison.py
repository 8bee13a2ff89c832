"""Two states of a database beside each other, and the rule of the zoo: whole, or named, or refused in time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from app.archives.manifest import Warning_

#: Section → its lines, each of which begins with the object's name.
Snapshot = dict[str, list[str]]


class NotWhole(Exception):
    """What was backed up did not come back, and nobody said so."""


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """`- `: lost, `+ `: not there before."""
    found = []
    for section in [*before, *(name for name in after if name not in before)]:
        old, new = Counter(before.get(section, [])), Counter(after.get(section, []))
        found += [f"- {section}: {line}" for line in (old - new).elements()]
        found += [f"+ {section}: {line}" for line in (new - old).elements()]
    return found


#: What the server's own program says, in a snapshot.
NATIVE = "native dump"


def unexplained(before: Snapshot, after: Snapshot, warnings: Sequence[Warning_]) -> list[str]:
    """The differences that no warning names; the native dump counts where the catalogues are equal: it has lines
    around each object that do not name it."""
    found = differences(before, after)
    catalogues = [line for line in found if not line[2:].startswith(NATIVE)]
    return unnamed(catalogues or found, warnings)


def unnamed(found: Iterable[str], warnings: Iterable[Warning_]) -> list[str]:
    """The differences that no warning names: by its subject, as a word of the line."""
    subjects = {part for warning in warnings for part in _words(warning.subject or "")}
    return [line for line in found if not subjects & _words(line)]


def _words(text: str) -> set[str]:
    """A name as SQL writes it, apart and with what it is in; of a column, its table too."""
    parts = re.findall(r'[^\s`",;()=\[\]]+', text)
    tables = {part.rpartition(".")[0] for part in parts if part.count(".") > 1}
    return tables | {piece for part in parts for piece in (part, part.rpartition(".")[2]) if piece}
