"""What a restore changes of a live tree: what stays, what goes, and what is newer than the backup."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from app.archives.members import MemberList
from app.components.base import RestoreContext
from app.deployments.tree import Entry

_NAMED = 100
_MOST_FIXED = 20


@dataclass(slots=True)
class _Count:
    """Files of one kind: how many, of how many bytes, and the first hundred names."""

    files: int = 0
    bytes: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.files += 1
        self.bytes += entry.size
        if len(self.names) < _NAMED:
            self.names.append(entry.path.decode("utf-8", "backslashreplace"))

    def facts(self) -> dict[str, Any]:
        return {"files": self.files, "bytes": self.bytes, "names": self.names}


class Survey:
    """`excluded`: what the backup left out on purpose, which stays. Folders are not counted, what is in them is.

    `fixed`: the first entries that nobody can move or remove, where the inventory tells.
    """

    def __init__(self, members: MemberList, context: RestoreContext, excluded: Sequence[bytes]) -> None:
        self._members = members
        self._clear = context.clear_existing
        self._taken_at = context.taken_at
        self._excluded = set(excluded)
        self.fixed: list[str] = []
        self._stays, self._goes, self._newer = _Count(), _Count(), _Count()

    async def run(self, live: AsyncGenerator[list[Entry], None]) -> None:
        async with aclosing(live) as batches:
            async for batch in batches:
                await asyncio.to_thread(self._count, batch)

    def _count(self, batch: list[Entry]) -> None:
        fixed = [entry.path.decode("utf-8", "backslashreplace") for entry in batch if entry.fixed]
        self.fixed += fixed[: _MOST_FIXED - len(self.fixed)]
        entries = [entry for entry in batch if entry.type != "d"]
        archived = self._members.known([entry.path for entry in entries])
        taken_at = None if self._taken_at is None else self._taken_at.timestamp()
        for entry in entries:
            stays = entry.path not in archived and (not self._clear or self._is_excluded(entry.path))
            if stays:
                self._stays.add(entry)
                continue
            if entry.path not in archived:
                self._goes.add(entry)
            if taken_at is not None and entry.mtime > taken_at:
                self._newer.add(entry)

    def _is_excluded(self, path: bytes) -> bool:
        """It, or a folder that it is in."""
        parts = path.split(b"/")
        return bool(self._excluded) and any(
            b"/".join(parts[:depth]) in self._excluded for depth in range(1, len(parts) + 1)
        )

    def facts(self) -> dict[str, Any]:
        """`stays`: only live, and kept. `goes`: only live, and removed. `newer`: changed since the backup was made,
        and replaced or removed."""
        return {"stays": self._stays.facts(), "goes": self._goes.facts(), "newer": self._newer.facts()}
