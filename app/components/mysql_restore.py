"""Restoring a MySQL or MariaDB database in place, without an administrator: after a safety copy of what is live."""

from __future__ import annotations

import logging
import secrets
from contextlib import aclosing

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Report, RestoreContext, Settled, still_ours
from app.components.mysql_client import MysqlClient
from app.components.mysql_dump import take_inventory
from app.components.mysql_journal import UNSETTLED, MysqlJournal, State
from app.components.mysql_script import MysqlScript
from app.components.mysql_steps import Stepwise, drops, explained, tables_of, told_of
from app.errors import ConsentRequired, LiberuError, OperationCancelled, OwnershipLost, RestoreUnsettled

log = logging.getLogger(__name__)


class InPlaceRestore(Stepwise):
    """A safety copy is stored first; whatever is cut short after `begun` was journalled, it puts back. It is kept
    until the live database is whole."""

    RUN = ("safeguard", "begin", "empty", "load", "create", "end")
    UNDO = ("reach", "undoing", "empty", "load_back", "create", "end_undone")

    def __init__(self, owner: MysqlClient, context: RestoreContext) -> None:
        self._context = context
        self._journal = MysqlJournal.of(context)
        self._name = owner.target.name
        self._owner = owner.marked(self._journal.noted.get("mark", ""))
        self._script = MysqlScript(self._name, foreign=context.foreign)
        self._source: ByteStream = from_bytes(b"")
        self._routines: list[str] = []  # that were live
        self._copy: ByteStream = from_bytes(b"")

    async def run(self, source: ByteStream, report: Report) -> None:
        """Comes after `settle`. Raises LoadFailed, RestoreUnsettled, ConsentRequired, and what `source` raises."""
        self._source = source
        async with aclosing(source):
            await self.guarded(self.RUN)
        told_of(self._script, report)
        for routine in self._routines:
            report.warn("grants_unknown", "What others were granted on it is gone, if anything was", routine)
        if not await self._discarded():
            report.warn("safety_copy_kept", f"The safety copy, {self._context.safety.name}, could not be removed yet")

    async def _failed(self, error: BaseException) -> BaseException:
        """Put the safety copy back; the error with what became of the live database."""
        if isinstance(error, OwnershipLost) or self._journal.uncertain:
            return error  # whoever goes on finds all of it in the journal
        if self._journal.state not in UNSETTLED:
            if isinstance(error, LiberuError):
                await self._discarded()
            return error
        try:
            if not await still_ours(self._context):
                return error
            settled = await self.settle()
        except LiberuError as worse:
            log.exception("Putting the safety copy of %s back failed", self._name)
            if not isinstance(error, LiberuError) or isinstance(worse, OwnershipLost):
                return error
            return RestoreUnsettled(f"{error.message}; {worse.message}")
        return explained(error, settled.detail or "")

    # What a restore does, step by step. Until `begin` nothing live is touched.

    async def _safeguard(self) -> None:
        try:
            await self._context.safety.store()
        except LiberuError as error:
            await self._discarded()
            if not self._context.allow_without_safety_copy:
                reason = f"no whole safety copy of the live database could be made ({error.message})"
                raise ConsentRequired(
                    f"{self._name}: {reason}. Nothing "
                    "was changed; set allow_without_safety_copy to go on without one, or configure an admin account"
                ) from error

    async def _begin(self) -> None:
        mark = await self._owner.markable(f"liberu-{secrets.token_hex(8)}")
        await self._context.confirm()
        await self._journal.begin(State.BEGUN, way="in_place", mark=mark)
        self._owner = self._owner.marked(mark)

    async def _empty(self) -> None:
        live = await take_inventory(self._owner)
        self._routines = live.routines
        self._script = MysqlScript(self._name, foreign=self._context.foreign)
        self._script.suits(live)
        await self._owner.ask(drops(live, self._name, tables=True))

    async def _load(self) -> None:
        await self._owner.load(tables_of(self._source, self._script))

    async def _create(self) -> None:
        await self._owner.load(from_bytes(self._script.objects + self._script.events))

    async def _end(self) -> None:
        await self._journal.move(State.DONE)

    # Putting right what was cut short.

    async def settle(self) -> Settled:
        state = self._journal.state
        if state in UNSETTLED:
            return await self._put_back()
        if state is State.DONE:
            await self._discarded()
            return Settled("done", f"{self._name} holds what was restored")
        if state is State.LOST:
            return Settled("lost", self._lost())
        return Settled("undone" if state is State.UNDONE else "untouched", "the live database is as it was")

    async def _put_back(self) -> Settled:
        safety = self._context.safety
        if not await still_ours(self._context):
            raise OwnershipLost("Another attempt has taken this operation over")
        if not safety.stored:
            await self._journal.move(State.LOST)
            return Settled("lost", self._lost())
        try:
            await self._owner.alone()
            await self.through(self.UNDO)
        except (OwnershipLost, OperationCancelled):
            raise
        except LiberuError as error:
            raise RestoreUnsettled(
                f"the live database {self._name} {await self._holds()}, and its safety copy, {safety.name}, could "
                f"not be put back yet ({error.message}). Nothing was removed: the safety copy is kept, and it is "
                "tried again; that backup can be restored by hand as well"
            ) from error
        finally:
            await self._copy.aclose()
        kept = "" if await self._discarded() else f"; {safety.name} could not be removed yet"
        return Settled("undone", f"the live database was put back from its safety copy{kept}")

    async def _reach(self) -> None:
        """Nothing is emptied for a copy that cannot be had."""
        self._copy = self._context.safety.open()
        first = await anext(self._copy, b"")
        self._copy = _again(first, self._copy)

    async def _undoing(self) -> None:
        if self._journal.state is State.BEGUN:
            await self._journal.move(State.UNDOING)

    async def _load_back(self) -> None:
        await self._owner.load(tables_of(self._copy, self._script))

    async def _end_undone(self) -> None:
        await self._journal.move(State.UNDONE)

    async def _discarded(self) -> bool:
        """A safety copy that is not needed any more and cannot be removed is a backup that the clean-up removes."""
        try:
            await self._context.safety.discard()
        except OwnershipLost:
            raise
        except LiberuError as error:
            log.warning("%s: %s could not be removed: %s", self._name, self._context.safety.name, error.message)
            return False
        return True

    async def _holds(self) -> str:
        try:
            tables = len((await take_inventory(self._owner)).tables)
        except LiberuError:
            return "may be empty or incomplete"
        return f"may be incomplete (it has {tables} tables now)" if tables else "is empty"

    def _lost(self) -> str:
        return (
            f"there was no safety copy, as was agreed to: the live database {self._name} is incomplete, and it must "
            "be restored again"
        )


async def _again(first: bytes, rest: ByteStream) -> ByteStream:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
