"""What counts as being cut off from a site: of all errors that there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app import errors
from app.errors import CommandFailed, LiberuError, StreamCut
from app.jobs.tries import cut

LOST = {"DeploymentUnreachable", "StreamCut", "TargetGone"}
COMING = {*LOST, "DatabaseUnreachable", "TargetMissing"}
#: In the words of a client whose server has ended.
BY_THE_END = {*LOST, "CommandFailed", "ComponentError", "DatabaseNotFound", "DatabaseUnreachable", "DumpIncomplete",
              "LoadFailed"}  # fmt: skip


def every(kind: type[LiberuError] = LiberuError) -> Iterator[LiberuError]:
    yield CommandFailed("tar", 2, "") if kind is CommandFailed else kind("what happened")
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from every(below)


@pytest.mark.parametrize(
    ("again", "ended", "expected"),
    [(False, False, LOST), (True, False, COMING), (False, True, BY_THE_END), (True, True, COMING | BY_THE_END)],
)
def test_no_refusal_is_tried_again(again: bool, ended: bool, expected: set[str]) -> None:
    assert {type(error).__name__ for error in every() if cut(error, again=again, ended=ended)} == expected


@pytest.mark.parametrize("around", [errors.ConsentRequired, errors.RestoreUnsettled, errors.SwapUnfinished])
def test_the_cause_tells_of_what_is_put_right(around: type[LiberuError]) -> None:
    """A safety copy, a swap or its undoing that was cut off says so in other words."""
    error = around("no safety copy could be made")
    error.__cause__ = StreamCut("the line broke")
    assert cut(error)
    error.__cause__ = errors.NoSpace("the disk is full")
    assert not cut(error, again=True, ended=True)
