"""The index that Plesk keeps of the objects in its repository: `.discovered/NAME/object_index`.

Source: lines of fields that tabs separate; the kind of an object is one field, its name and where it is described are
others. Their order is not relied upon.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.external.names import domain_name

_KINDS = {"domain", "site"}
_MAX_ROWS = 100_000
_MAX_FIELDS = 50


@dataclass(frozen=True, slots=True)
class IndexedDomain:
    """`described`: the path of the XML that describes it, None: the index does not say."""

    name: str
    described: str | None


def indexed_domains(text: str) -> Iterator[IndexedDomain]:
    for line in text.splitlines()[:_MAX_ROWS]:
        fields = line.split("\t", _MAX_FIELDS)
        if not _KINDS & set(fields):
            continue
        described = next((field for field in fields if field.endswith(".xml")), None)
        names = (domain_name(field) for field in fields if field != described and field not in _KINDS)
        name = next((name for name in names if name is not None), None)
        if name is not None:
            yield IndexedDomain(name, described)
