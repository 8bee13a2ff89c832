"""The swap of a restored tree with the live one: one state machine, wherever the site runs.

    planned ── begun ── swapped ── tidied
                  └──── undone

`planned`: the live tree is as it was; all that is in staging is ours. `begun`: entries may lie on either side, and
only `forward` or `backward` may follow. `swapped`: the new tree is live, staging holds the old one. `undone`: the old
tree is live again. `tidied`: the old tree is gone. Every state is journalled before the first thing that only it
allows.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set

from app.deployments.descriptors import entry_name
from app.deployments.tree import SiteTree, SwapPlan, SwapState, User
from app.errors import LiberuError, StagingLost, SwapImpossible, SwapUnfinished, TargetMissing

log = logging.getLogger(__name__)

TRANSITIONS: Mapping[SwapState, tuple[SwapState, ...]] = {
    "planned": ("begun",),
    "begun": ("swapped", "undone"),
    "swapped": ("tidied",),
    "undone": (),
    "tidied": (),
}
_MOST_NAMES = 32 << 20


def pack(names: Sequence[bytes]) -> str:
    """Names of files for a journal. Raises SwapImpossible when they are more than 32 MiB."""
    text = b"\0".join(names)
    if len(text) > _MOST_NAMES:
        raise SwapImpossible("The site's folder has more entries than a swap can journal; put them into subfolders")
    return base64.b64encode(zlib.compress(text)).decode()


def unpack(packed: str) -> list[bytes]:
    if not packed:
        return []
    text = zlib.decompressobj().decompress(base64.b64decode(packed), _MOST_NAMES + 1)
    return text.split(b"\0")


def sides(coming: Set[bytes], going: Set[bytes]) -> list[bytes]:
    """One record for each entry: b, it comes and goes; n, it only comes; o, it only goes; then its name."""
    return [
        (b"b" if name in coming and name in going else b"n" if name in coming else b"o") + name
        for name in sorted(coming | going)
    ]


def entries_of(plan: SwapPlan) -> list[bytes]:
    """The plan's records, as `sides` has made them. Raises SwapImpossible when one names no entry of a folder."""
    records = unpack(plan.names)
    for record in records:
        _checked(record[1:])
        if record[:1] not in (b"b", b"n", b"o"):
            raise SwapImpossible(f"The journal of the restore of {plan.target} is damaged: {record[:100]!r}")
    return records


def checked_paths(paths: Sequence[bytes]) -> Sequence[bytes]:
    """Paths in a folder, or the folder itself (`.`). Raises SwapImpossible for one that leads out of it."""
    for path in paths:
        for part in path.split(b"/") if path != b"." else ():
            _checked(part)
    return paths


def _checked(name: bytes) -> None:
    try:
        entry_name(name)
    except OSError as error:
        raise SwapImpossible(f"{name[:100]!r} is not the name of an entry of a folder: nothing was moved") from error


class Swap:
    """One swap, from its plan to its end. `save` journals the plan durably, and raises when this attempt no longer
    owns the operation; `owned` tells so."""

    def __init__(
        self,
        tree: SiteTree,
        plan: SwapPlan,
        save: Callable[[SwapPlan], Awaitable[None]],
        owned: Callable[[], Awaitable[bool]],
    ) -> None:
        self._tree = tree
        self.plan = plan
        self._save = save
        self._owned = owned
        self.carried_over = 0
        self.arrived: list[str] = []
        self.troubles: list[str] = []

    async def prepare(self, owner: User) -> str:
        """An empty staging folder; what is in one of an earlier attempt goes. Returns where to extract into.

        Raises SwapUnfinished when something that was live is in it.
        """
        await self._clear()
        path = await self._tree.prepare(self.plan, owner)
        await self._save(self.plan)
        return path

    async def run(self, roots: Sequence[bytes], confirm: Callable[[], Awaitable[None]]) -> None:
        """Put what was extracted in the live tree's place. `roots`: where what only the live tree has stays.

        `confirm` runs right before anything live changes, and may raise. On any error the live tree is as it was, or
        SwapUnfinished says where what is missing of it lies.
        """
        if roots:
            self.plan.tree, self.plan.roots = "merged", pack(roots)
            await self._tree.merge(self.plan, roots)
        await self._tree.measure(self.plan)
        await confirm()
        try:
            await self._enter("begun")
            await self._forward()
        except (StagingLost, TargetMissing):  # both folders are opened before anything is moved
            await self._enter("undone")
            raise
        except BaseException as error:
            await asyncio.shield(self._undo(error))
            raise
        await self._carry_over()

    async def settle(self, *, back: bool) -> SwapState:
        """Finish what an attempt that has ended had begun, or undo it, whichever is possible; `back`: rather undo it.

        Raises SwapUnfinished when neither is; then nothing was removed, and it can be called again.
        """
        if self.plan.state == "begun":
            for step in (self._backward, self._forward) if back else (self._forward, self._backward):
                try:
                    await step()
                    break
                except LiberuError as error:
                    failure = error
            else:
                raise self._unfinished(failure) from failure
        if self.plan.state == "swapped":
            await self._carry_over()
        return self.plan.state

    async def tidy(self) -> None:
        """Remove staging, with the old tree after a swap. Raises SwapUnfinished when the swap is not settled."""
        if self.plan.state == "begun":
            raise self._unfinished(None)
        if self.plan.state == "tidied" or self.plan.cleared:
            return
        try:
            await (self._tree.remove(self.plan) if self.plan.state == "swapped" else self._clear())
        except StagingLost as error:
            log.warning("Nothing is removed, since nothing of ours is there: %s", error.message)
        if self.plan.state == "swapped":
            await self._enter("tidied")
        else:
            self.plan.cleared = True
            await self._save(self.plan)

    async def _clear(self) -> None:
        """Remove staging, of a swap that has changed nothing."""
        if self.plan.state not in ("planned", "undone") or await self._tree.holds_old(self.plan):
            raise self._unfinished(None)
        await self._tree.remove(self.plan)

    async def _enter(self, state: SwapState) -> None:
        if state not in TRANSITIONS[self.plan.state]:
            raise RuntimeError(f"a swap cannot become {state} when it is {self.plan.state}")
        before, self.plan.state = self.plan.state, state
        try:
            await self._save(self.plan)
        except BaseException:
            if state != "begun":  # it may have been journalled all the same
                self.plan.state = before
            raise

    async def _forward(self) -> None:
        self.arrived += await self._tree.forward(self.plan)
        await self._enter("swapped")

    async def _backward(self) -> None:
        await self._tree.backward(self.plan)
        await self._enter("undone")

    async def _undo(self, cause: BaseException) -> None:
        """After a swap that stopped half-way; whoever has taken the operation over goes on with it instead."""
        if not await self._owned():
            return
        try:
            await self._backward()
        except LiberuError as error:
            log.warning(
                "The swap of %s stopped half-way and cannot be undone yet: %s", self.plan.target, error.message
            )
            raise self._unfinished(error, cause) from cause

    async def _carry_over(self) -> None:
        """The site is live: what goes wrong now is told, and fails nothing."""
        roots = unpack(self.plan.roots)
        if self.plan.carried or not roots:
            return
        try:
            self.carried_over += await self._tree.carry_over(self.plan, roots)
            self.plan.carried = True
            await self._save(self.plan)
        except LiberuError as error:
            log.warning("Files that arrived at %s were not all carried over: %s", self.plan.target, error.message)
            self.troubles.append(error.message)

    def _unfinished(self, error: LiberuError | None, cause: BaseException | None = None) -> SwapUnfinished:
        """`cause`: why it stopped. `error`: why it is not settled."""
        why, reason = (f" ({one.message})" if isinstance(one, LiberuError) else "" for one in (cause, error))
        return SwapUnfinished(
            f"{self.plan.target}: the swap stopped half-way{why} and could not be undone yet{reason}. What was live "
            f"and is missing there lies in {self.plan.staging_path}/{self.plan.old_tree}; nothing was removed. It is "
            "tried again: by housekeeping, and before the next backup or restore of this domain"
        )
