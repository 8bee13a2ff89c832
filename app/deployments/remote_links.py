"""A tree of hard links at another end, made of what was extracted and of what is live: see SiteTree.merge.

Nobody else reaches into `merged`, so what is there stays as it is: its folders are made in one go, and get owners,
permissions and times once all is in them. A program for each of them would be most of a restore's time.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import aclosing
from typing import Protocol

from app.archives.streams import from_bytes
from app.deployments import merge_scripts as scripts
from app.deployments.base import CommandResult, Deployment, Outcome
from app.deployments.exclusions import split
from app.errors import SwapImpossible

_ROOT = b"."
_MOST = 64 << 20
_FOLDER = re.compile(rb"(\d+:\d+ [0-7]+)[ \n](.*)", re.DOTALL)


class Script(Protocol):
    def __call__(
        self, script: str, path: str, *arguments: str, names: Sequence[bytes] | None = None, most: int = ...
    ) -> Awaitable[CommandResult]: ...


class LinkedTree:
    """`path`: the folder `merged`, which is empty. `script` runs one of our scripts in a folder."""

    def __init__(self, deployment: Deployment, script: Script, path: str) -> None:
        self._deployment = deployment
        self._script = script
        self._path = path
        self._made = {_ROOT}
        self._given: list[bytes] = []
        self._times: list[tuple[str, list[bytes]]] = []

    async def add(self, tree: str, roots: Sequence[bytes], hidden: str) -> None:
        """What is not there yet of what `tree` has at or below `roots`, but for names that begin with `hidden`.

        Raises SwapImpossible when a folder cannot be read.
        """
        tops = [root if root == _ROOT else b"./" + root for root in roots]
        above = list(dict.fromkeys(folder for top in tops for folder in _above(top)))
        facts = await self._folders(tree, above, hidden, deep=False)
        below = await self._folders(tree, tops, hidden, deep=True)
        await self._make(tree, facts | below)
        files = [b"f" + top for top in tops if top not in below]
        folders = [b"d" + folder for folder in below if folder in self._made]
        await self._script(scripts.LINK, self._path, tree, hidden, names=[*files, *folders])

    async def finish(self) -> None:
        """Owners, permissions, times and ACLs of the folders that were made, from the innermost on."""
        for tree, folders in self._times:
            marked = await self._script(scripts.ACLS, tree, names=folders)
            letter = b"a" if marked.stdout else b"t"
            times = [letter + folder for folder in reversed(folders)]
            await self._script(scripts.LINK, self._path, tree, "", names=times)
        await self._script(scripts.GIVE, self._path, names=self._given[::-1])

    async def _make(self, tree: str, facts: dict[bytes, bytes]) -> None:
        """The folders that are not there, where nothing else stands at their place or above it."""
        made: list[bytes] = []
        if wanted := [folder for folder in facts if folder not in self._made]:
            found = await self._script(scripts.MISSING, self._path, names=wanted, most=_MOST)
            if len(found.stdout) >= _MOST:
                raise SwapImpossible(f"{tree} has more folders than a restore can merge; set clear_existing")
            missing = set(found.stdout.split(b"\0"))
            for folder in wanted:
                if folder in missing and folder.rpartition(b"/")[0] in self._made:
                    self._made.add(folder)
                    made.append(folder)
        if made:
            await self._script(scripts.MAKE, self._path, names=made)
        self._given += [facts[folder] + b" " + folder for folder in made]
        if dated := made if self._times else [_ROOT, *made]:
            self._times.append((tree, dated))

    async def _folders(self, tree: str, tops: Sequence[bytes], hidden: str, *, deep: bool) -> dict[bytes, bytes]:
        """Owner and permissions of folders, those above first. What vanishes meanwhile is normal."""
        if not tops:
            return {}
        outcome = Outcome()
        argv = ["sh", "-c", scripts.FOLDERS, "sh", hidden, "1" if deep else ""]
        names = b"".join(top + b"\0" for top in tops)
        listed = self._deployment.stream(argv, input=from_bytes(names), cwd=tree, accept=range(126), outcome=outcome)
        folders: dict[bytes, bytes] = {}
        async with aclosing(split(listed, b"\0")) as found:
            async for record in found:
                if (parts := _FOLDER.fullmatch(record)) is None:
                    raise SwapImpossible(f"{tree} cannot be listed: {record[:200]!r} is not understood")
                folders.setdefault(parts[2], parts[1])
        unread = [line for line in outcome.stderr.splitlines() if "No such file" not in line and "xargs" not in line]
        if outcome.status != 0 and unread:
            raise SwapImpossible(f"{tree} cannot be read as a whole: {unread[0]}")
        return folders


def _above(path: bytes) -> Iterator[bytes]:
    """`./a` and `./a/b` of `./a/b/c`."""
    parts = path.split(b"/")
    for depth in range(2, len(parts)):
        yield b"/".join(parts[:depth])
