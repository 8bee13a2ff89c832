"""XML that somebody else wrote: no document type, no entities, bounded in every way, and only what is asked for kept.

Source: Extensible Markup Language (XML) 1.0; the parser is expat, which is fed piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from app.errors import ArchiveInvalid, ImportLimitExceeded
from app.external.items import shown
from app.sizes import human_size

_PIECE = 16 << 10
_MAX_BYTES = 64 << 20
#: Of one tag or comment: a name with a million attributes would be held in memory whole.
_MAX_TOKEN = 256 << 10
_MAX_DEPTH = 100
_MAX_KEPT = 300_000
_MAX_TEXT = 4096


class _Found(Exception):
    """The root element is known."""


@dataclass(slots=True)
class Element:
    """`children`: what is kept below, in order; what lies in an element that is not kept belongs to the next one
    above. `text`: what stands directly in it, when that was asked for."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def get(self, attribute: str) -> str:
        """ "" when it is not there."""
        return self.attributes.get(attribute, "")

    def all(self, *names: str) -> Iterator[Element]:
        return (child for child in self.children if child.name in names)

    def first(self, name: str) -> Element | None:
        return next(self.all(name), None)

    def deep(self, name: str) -> Iterator[Element]:
        """Of all below, at any depth; not in what is found."""
        for child in self.children:
            if child.name == name:
                yield child
            else:
                yield from child.deep(name)


@dataclass(frozen=True, slots=True)
class Kept:
    """Names of elements, of attributes, and of elements whose text is kept."""

    elements: frozenset[str]
    attributes: frozenset[str]
    texts: frozenset[str]


def read_xml(chunks: Iterable[bytes], keep: Kept, path: bytes) -> Element:
    """The root element. Raises ArchiveInvalid, ImportLimitExceeded, which name the file `path`."""
    reader = _Reader(keep)
    try:
        reader.feed(chunks)
        if reader.root is None:
            raise ArchiveInvalid("The XML holds no element")
    except (ArchiveInvalid, ImportLimitExceeded) as error:
        raise type(error)(f"{shown(path)}: {error.message}") from error
    return reader.root


def root_name(chunks: Iterable[bytes]) -> str:
    """Of XML that we would read; "": it is none, or broken or hostile before its first element."""
    reader = _Reader(Kept(frozenset(), frozenset(), frozenset()), root_only=True)
    try:
        reader.feed(chunks)
    except _Found:
        assert reader.root is not None
        return reader.root.name
    except (ArchiveInvalid, ImportLimitExceeded):
        pass
    return ""


class _Reader:
    def __init__(self, keep: Kept, *, root_only: bool = False) -> None:
        self.root: Element | None = None
        self._keep = keep
        self._root_only = root_only
        self._open: list[Element | None] = []  # None: one that is not kept
        self._kept: list[Element] = []
        self._count = 0
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._parser = parser

    def feed(self, chunks: Iterable[bytes]) -> None:
        fed = 0
        try:
            for chunk in chunks:
                for start in range(0, len(chunk), _PIECE):
                    piece = chunk[start : start + _PIECE]
                    fed += len(piece)
                    self._parser.Parse(piece, False)
                    if fed > _MAX_BYTES or fed - self._parser.CurrentByteIndex > _MAX_TOKEN + _PIECE:
                        raise ImportLimitExceeded(
                            f"The XML is larger than {human_size(_MAX_BYTES)}, or holds a tag larger than "
                            f"{human_size(_MAX_TOKEN)}"
                        )
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise ArchiveInvalid(f"The XML is not valid: {error}") from error
        except (ValueError, LookupError) as error:
            raise ArchiveInvalid(f"The XML is in an encoding that cannot be read: {error}") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _MAX_DEPTH:
            raise ImportLimitExceeded(f"The XML is nested more than {_MAX_DEPTH} deep")
        element = None
        if self.root is None or name in self._keep.elements:
            self._count += 1
            if self._count > _MAX_KEPT:
                raise ImportLimitExceeded(f"The XML holds more than {_MAX_KEPT} elements that matter")
            known = {key: value for key, value in attributes.items() if key in self._keep.attributes}
            element = Element(name, known)
            if self.root is None:
                self.root = element
            else:
                self._kept[-1].children.append(element)
            self._kept.append(element)
        self._open.append(element)
        if self._root_only:
            raise _Found

    def _end(self, name: str) -> None:
        if self._open.pop() is not None:
            self._kept.pop()

    def _text(self, data: str) -> None:
        element = self._open[-1]
        if element is not None and element.name in self._keep.texts:
            element.text = (element.text + data)[:_MAX_TEXT]


def _refuse(*_: object) -> None:
    raise ArchiveInvalid("The XML has a document type or an entity: no panel writes those, and they are not read")
