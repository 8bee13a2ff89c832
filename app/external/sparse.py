"""The maps of sparse files in tar archives.

Source: the GNU tar manual, "Storing Sparse Files" (PAX formats 0.1 and 1.0, old GNU format).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator

from app.archives.streams import CHUNK
from app.errors import ArchiveInvalid
from app.external.items import Item, shown

#: Stored bytes from an offset on, so many.
Stored = Callable[[int, int], Iterator[bytes]]
_WORD = re.compile(r"[^,]+")
_MAX_MAP, _MAX_DIGITS = 4 << 20, 19


def segments(item: Item, stored: Stored) -> Iterator[tuple[int, int, int]]:
    """Of a sparse file: the hole before, where the data is, and its length. Raises ArchiveInvalid."""
    numbers, offset = _map(item, stored)
    at = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=False):
        if start < at or start + length > item.size or offset + length > item.offset + item.stored:
            raise _invalid(item)
        if length:
            yield start - at, offset, length
            at, offset = start + length, offset + length


def _map(item: Item, stored: Stored) -> tuple[array[int], int]:
    """Offsets and lengths, and where the data begins."""
    numbers = array("Q")
    if item.sparse != "1.0":
        if item.sparse:
            numbers.extend(_number(match[0], item) for match in _WORD.finditer(item.sparse))
        return numbers, item.offset
    count, used = -1, 0
    for line in _lines(item, stored):
        used += len(line) + 1
        number = _number(line.decode("ascii", "replace"), item)
        if count < 0:
            count = 2 * number
        else:
            numbers.append(number)
        if len(numbers) == count:
            return numbers, item.offset + -(-used // 512) * 512
    raise _invalid(item)


def _lines(item: Item, stored: Stored) -> Iterator[bytes]:
    """Of the map at the content's start, no further than a map may reach."""
    rest = b""
    for chunk in stored(item.offset, min(item.stored, _MAX_MAP)):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _MAX_DIGITS:
            raise _invalid(item)


def _number(text: str, item: Item) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) < 1 << 63):
        raise _invalid(item)
    return int(text)


def _invalid(item: Item) -> ArchiveInvalid:
    return ArchiveInvalid(f"{shown(item.path)}: the map of this sparse file is not valid")


def zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        step = min(count, CHUNK)
        yield bytes(step)
        count -= step
