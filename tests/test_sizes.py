"""Sizes as people read them, and messages about room that say all of what is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import NoSpace
from app.external.room import Room
from app.sizes import human_size


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0.00 B"),
        (1023, "1023.00 B"),
        (1536, "1.50 KB"),
        (90_054_656, "85.88 MB"),
        (5 << 40, "5.00 TB"),
        (1 << 63, "8192.00 PB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert human_size(size) == shown


def test_room_names_what_is_needed_with_the_reserve(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match=r"1024\.00 PB are needed with the reserve of 1024\.00 PB"):
        Room(tmp_path, 1 << 60).need(1)
