"""One tree at another end added to another there, file by file, under a component's rules."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from app.deployments.tree import MAX_NOTE, Entry, MergeRules

Parts = tuple[bytes, ...]
_BATCH = 2000

#: Names below the working folder, each with a NUL; $1: how names begin that are ours.
NAMES = r"""
exec find . ! -name . -path "./$1*" -prune -o ! -name . -print0
"""

#: The files below the working folder that have the names $2 and on, each with what it holds, at most $1 bytes.
NOTES = r"""
most=$1
shift
for name do
  find . -name '.liberu-restore-*' -prune -o -type f -name "$name" -exec sh -c '
    most=$1
    shift
    for file do printf "%s\0%s\0" "$file" "$(head -c "$most" "$file")"; done' sh "$most" {} +
done
"""

#: In `new`, as the owner: linked into the target, $1, under the name that follows each file's; a folder's name ends
#: with a slash and is followed by another.
ADD = r"""
exec 9<.
cd -- "$1"
[ "$(pwd -P)" = "$1" ]
exec xargs -0 -r -n 400 sh -c '
  set -e
  while [ $# -gt 0 ]; do
    case $1 in
      */) [ -d "$1" ] || { mkdir -p -- "$1" && chmod "$(stat -c %a "/proc/self/fd/9/$1")" "$1"; } ;;
      *) [ -e "$2" ] || ln -- "/proc/self/fd/9/$1" "$2" ;;
    esac
    shift 2
  done' sh
"""

#: As the owner: pairs of a file below the target, $1, and what belongs at its end.
APPEND = r"""
cd -- "$1"
[ "$(pwd -P)" = "$1" ]
exec xargs -0 -r -n 2 sh -c '
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then exit 0; fi
  printf "%s" "$2" >>"$1" || :' sh
"""


class RemoteMerge:
    """`script(name, pairs)`: runs ADD or APPEND with names that end with a NUL each."""

    def __init__(self, rules: MergeRules, script: Callable[[str, Sequence[bytes]], Awaitable[object]]) -> None:
        self._rules = rules
        self._script = script
        self._pairs: list[bytes] = []
        self.count = 0

    async def have(self, names: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(names):
            async for name in names:
                self._rules.have(_parts(name))

    async def staged(self, names: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(names):
            async for name in names:
                self._rules.staged(_parts(name))

    async def note(self, records: AsyncGenerator[bytes, None], *, live: bool) -> None:
        async with aclosing(records):
            async for name in records:
                self._rules.note(_parts(name), await anext(records, b""), live=live)

    async def add(self, batches: AsyncGenerator[list[Entry], None]) -> None:
        """All of the staged tree, folders before what they hold."""
        async with aclosing(batches):
            async for batch in batches:
                for entry in batch:
                    self._plan(entry)
                if len(self._pairs) > _BATCH:
                    await self._flush()
        await self._flush()
        pairs = [part for path, line in self._rules.appended() for part in (b"./" + b"/".join(path), line)]
        if pairs:
            await self._script(APPEND, pairs)

    def _plan(self, entry: Entry) -> None:
        path = tuple(entry.path.split(b"/"))
        source = b"./" + entry.path
        if entry.type == "d":
            self._pairs += [source + b"/", b"/"]
            return
        name = self._rules.name(path)
        if name is not None:
            self._pairs += [source, b"./" + b"/".join((*path[:-1], name))]
            self._rules.added(path, entry.size)
            self.count += 1

    async def _flush(self) -> None:
        pairs, self._pairs = self._pairs, []
        if pairs:
            await self._script(ADD, pairs)


def notes_arguments(rules: MergeRules) -> list[str]:
    """Of NOTES."""
    return [str(MAX_NOTE), *(name.decode() for name in rules.notes)]


def _parts(name: bytes) -> Parts:
    return tuple(name.removeprefix(b"./").split(b"/"))
