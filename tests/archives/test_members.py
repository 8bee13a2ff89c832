"""A member list answers the same from memory and from its file, and keeps to its bound."""

from __future__ import annotations

from contextlib import closing

import pytest

from app.archives.members import MemberList
from app.archives.tar import Member


def member(path: str, type: str = "f", size: int = 3, uid: int = 1, gid: int = 2) -> Member:
    return Member(path.encode(), type, size, uid, gid, b"")


BATCHES = [
    [member("", "d"), member("a"), member("d", "d", 0), member("d/b", uid=7)],
    [member("a", size=9), member("null", "c", 0), member("d/hard", "h", 0), member("d/c", gid=8), member("gone")],
]


@pytest.mark.parametrize("most", [50_000, 5, 0], ids=["in memory", "spilt in between", "spilt at once"])
def test_the_same_answers_wherever_it_is_kept(most: int) -> None:
    with closing(MemberList(most)) as members:
        for batch in BATCHES:
            members.add(batch)
        assert members.count == 9
        assert members.devices(5) == [b"null"]
        assert members.known([b"a", b"d/c", b"d/x"]) == {b"a", b"d/c"}
        assert list(members.owned_by_others(1, 2)) == [(b"d/b", 7, 2), (b"d/c", 1, 8)]
        assert sorted(members.missing(9)) == [b"a", b"d", b"d/b", b"d/c", b"d/hard", b"gone"]
        found = [(b"a", "f", 3), (b"d", "d", 0), (b"d/b", "l", 0), (b"d/hard", "f", 3), (b"null", "c", 0)]
        assert members.compare([*found, (b"d/c", "f", 3)], extra=True) == [
            "a holds 3 bytes instead of 9",
            "d/b is of type l instead of f",
        ]
        assert members.compare([(b"other", "f", 1)]) == ["other is not in the archive"]
        assert members.compare([(b"other", "f", 1)], extra=True) == []
        assert members.missing(9) == [b"gone"]


def test_what_was_ticked_off_stays_so_when_it_spills() -> None:
    with closing(MemberList(2)) as members:
        members.add([member("a"), member("b")])
        assert members.compare([(b"a", "f", 3)]) == []
        members.add([member("c")])
        assert sorted(members.missing(9)) == [b"b", b"c"]


def test_memory_is_bounded_by_the_length_of_names_too() -> None:
    with closing(MemberList()) as members:
        for number in range(9):
            members.add([member(f"{number}" * (1 << 20))])
        assert not members._members
        assert len(members.known([b"0" * (1 << 20)])) == 1
