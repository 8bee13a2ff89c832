"""The maps of sparse files in tar archives.

Source: the GNU tar manual, "Storing Sparse Files" (PAX formats 0.1 and 1.0, old GNU format).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from app.archives.streams import CHUNK
from app.errors import ArchiveInvalid
from app.external.items import Item, shown

#: Stored bytes from an offset on, so many.
Stored = Callable[[int, int], Iterator[bytes]]
_MAP = re.compile(r"\d{1,19}(,\d{1,19})*")


def segments(item: Item, stored: Stored) -> Iterator[tuple[int, int, int]]:
    """Of a sparse file: the hole before, where the data is, and its length. Raises ArchiveInvalid."""
    numbers, offset = _map(item, stored)
    at = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=False):
        if start < at or start + length > item.size or offset + length > item.offset + item.stored:
            raise ArchiveInvalid(f"{shown(item.path)}: the map of this sparse file is not valid")
        if length:
            yield start - at, offset, length
            at, offset = start + length, offset + length


def _map(item: Item, stored: Stored) -> tuple[list[int], int]:
    """Offsets and lengths, and where the data begins."""
    if item.sparse != "1.0":
        if not _MAP.fullmatch(item.sparse or "") and item.sparse:
            raise ArchiveInvalid(f"{shown(item.path)}: the map of this sparse file is not valid")
        return [int(number) for number in (item.sparse or "").split(",") if number], item.offset
    lines, used = list[bytes](), 0
    text = b""
    for chunk in stored(item.offset, item.stored):
        text += chunk
        lines = text.split(b"\n")
        if lines[0].isdigit() and len(lines) > 1 + 2 * int(lines[0][:12]):
            count = 2 * int(lines[0][:12])
            used = sum(len(line) + 1 for line in lines[: 1 + count])
            if all(line.isdigit() and len(line) < 20 for line in lines[1 : 1 + count]):
                return [int(line) for line in lines[1 : 1 + count]], item.offset + -(-used // 512) * 512
        if len(text) > 16 << 20:
            break
    raise ArchiveInvalid(f"{shown(item.path)}: the map of this sparse file is not valid")


def zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        step = min(count, CHUNK)
        yield bytes(step)
        count -= step
