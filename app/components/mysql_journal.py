"""What the journal of an operation knows of a MySQL restore: how far it is, and what undoes or finishes it.

    planned ──▶ begun ──▶ done          the new is live and whole
                  ├─────▶ undoing ──▶ undone    the old is
                  └─────▶ lost          in place, with consent and without a safety copy: neither

Until `begun` is recorded nothing live is touched. From then on until an end is recorded `unsettled` is set, and
somebody has to call `settle`. `tidy` is set while something of ours is left on the server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from app.components.base import RestoreContext
from app.errors import ComponentError, LoadFailed

KEY = "mysql"
_MAX_KEPT = 8 << 20
_MAX_PLAIN = 512 << 20


class State(StrEnum):
    PLANNED = "planned"
    BEGUN = "begun"
    UNDOING = "undoing"
    DONE = "done"
    UNDONE = "undone"
    LOST = "lost"


#: What may follow; whoever has reached an end begins anew with `planned` or, in place, with `begun`.
FOLLOWS: dict[State, set[State]] = {
    State.PLANNED: {State.BEGUN},
    State.BEGUN: {State.UNDOING, State.DONE, State.LOST},
    State.UNDOING: {State.UNDONE},
    State.DONE: set(),
    State.UNDONE: set(),
    State.LOST: set(),
}
UNSETTLED = frozenset({State.BEGUN, State.UNDOING})
#: Nothing of the live database was moved yet, or the new one is whole.
OLD_NOT_NEEDED = frozenset({State.PLANNED, State.DONE})
_BEGINNINGS = {State.PLANNED, State.BEGUN}


class MysqlJournal:
    """The entry `mysql` of a part's journal, and what others look at: `unsettled` and `tidy`."""

    def __init__(self, journal: dict[str, Any], record: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._journal = journal
        self._record = record
        #: A record was cut short: whether it is durable nobody knows, and nothing may be done on the strength of it.
        self.uncertain = False

    @classmethod
    def of(cls, context: RestoreContext) -> MysqlJournal:
        return cls(context.journal, context.record)

    @property
    def noted(self) -> dict[str, Any]:
        found: dict[str, Any] = self._journal.get(KEY) or {}
        return found

    @property
    def state(self) -> State | None:
        return State(self.noted["state"]) if self.noted else None

    @property
    def untidy(self) -> bool:
        return bool(self._journal.get("tidy"))

    async def begin(self, state: State, **noted: Any) -> None:
        if state not in _BEGINNINGS or self.state in UNSETTLED:
            raise ComponentError(f"A restore that is {self.state} cannot begin again")
        await self._write({**noted, "state": str(state)}, tidy=False)

    async def move(self, state: State, *, tidy: bool = False, **noted: Any) -> None:
        """Durable when it returns. What undoes and finishes is forgotten at an end."""
        if self.state is None or state not in FOLLOWS[self.state]:
            raise ComponentError(f"A restore that is {self.state} cannot be {state}")
        kept = {**self.noted, **noted, "state": str(state)}
        if not FOLLOWS[state]:
            kept.pop("kept", None)
        await self._write(kept, tidy=tidy)

    async def again(self) -> None:
        """Record what is known once more: before something is removed on the strength of it."""
        await self._write(self.noted, tidy=True)

    async def tidied(self) -> None:
        await self._write(self.noted, tidy=False)

    async def _write(self, noted: dict[str, Any], *, tidy: bool) -> None:
        self.uncertain = True
        await self._record({KEY: noted, "unsettled": State(noted["state"]) in UNSETTLED, "tidy": tidy})
        self.uncertain = False


async def packed(kept: dict[str, Any], name: str) -> str:
    """For the journal. Raises LoadFailed for more than a row of the state should hold."""

    def work() -> str:
        return base64.b64encode(zlib.compress(json.dumps(kept).encode(), 6)).decode()

    found = await asyncio.to_thread(work)
    if len(found) > _MAX_KEPT:
        raise LoadFailed(
            f"{name}: its views, triggers, routines and events, and those of the backup, are too large to be kept "
            "for an undo (8 MiB compressed)"
        )
    return found


async def unpacked(text: str) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(base64.b64decode(text), _MAX_PLAIN)
        if not inflater.eof:
            raise ComponentError("The journal of the restore is damaged, or larger than what is ever kept")
        found: dict[str, Any] = json.loads(plain)
        return found

    return await asyncio.to_thread(work)
