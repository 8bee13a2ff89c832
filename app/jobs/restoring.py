"""What every job needs that restores parts of domains: their journals, and that nothing stays half-done."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.components.base import COMMITTING, NOT_REMOVED, PLACE, STAGING_LEFT, RestoreContext, Settled
from app.components.extraction import journalled
from app.db.base import now
from app.db.models import Domain, Operation, RestoreRemains
from app.db.repositories.domains import DomainRepository
from app.db.repositories.operations import ACTIVE, OperationRepository
from app.db.repositories.remains import RemainsRepository
from app.db.session import Database
from app.deployments.tree import STAGING_PREFIX, SwapPlan
from app.errors import (
    ComponentError,
    LiberuError,
    NotFound,
    OperationCancelled,
    OwnershipLost,
    SwapUnfinished,
)
from app.jobs.context import JobContext, Result
from app.jobs.creating import KEY as CREATED
from app.jobs.creating import Creating, left
from app.jobs.outcome import Apply, Outcome
from app.jobs.safety import BackupSource, OpenStore, SafetyBackup, safety_ended
from app.jobs.writer import BackupWriter
from app.security.keys import KeyRing
from app.services.components import REPLICA, VOLUME, ComponentFactory, DomainSite, begun_on
from app.settings import RestoreSettings

log = logging.getLogger(__name__)
Journal = dict[str, Any]
_FIRST_RETRY = timedelta(minutes=1)
_LAST_RETRY = timedelta(hours=6)
_STAGED = re.compile(re.escape(STAGING_PREFIX) + r"([0-9a-f-]{36})-(\d{1,9})")
_MOST_FOUND = 20
#: What a part's journal begins with, and what stays in it when it begins anew.
_LASTING = {"kind", "name", "domain_id", "safety", CREATED}
_GONE = "what was restored there went with its pod"


class Restoring:
    """`opened`: the store at a destination."""

    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        keys: KeyRing,
        opened: OpenStore,
        settings: RestoreSettings,
        creating: Creating,
    ) -> None:
        self._creating = creating
        self._database = database
        self._components = components
        self._keys = keys
        self._opened = opened
        self._settings = settings
        self._writer = BackupWriter()

    def context(
        self,
        operation: Operation,
        number: int,
        source: BackupSource,
        context: JobContext,
        confirm: Callable[[], Awaitable[None]],
        *,
        exclusions: Sequence[str] | None = None,
        taken_at: datetime | None = None,
        foreign: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> RestoreContext:
        """For one part, whose journal begins with what is needed to settle and tidy it: kind, name and domain."""
        known = {"kind": source.kind, "name": source.name, "domain_id": source.domain.id}
        journal: Journal = operation.journal.setdefault(str(number), known)
        served = source.site.serving(source.kind, source.name)
        if served is not None and begun_on(journal) is None:
            journal[VOLUME] = served.volume

        async def record(entry: Journal) -> None:
            journal.update(entry)
            await context.record(journal=operation.journal)

        request = operation.request
        return RestoreContext(
            operation=f"{operation.uid}-{number}",
            clear_existing=request["clear_existing"],
            allow_in_place=request["allow_in_place"],
            confirm=confirm,
            journal=journal,
            record=record,
            safety=self._safety(source, context, journal, record),
            allow_without_safety_copy=request["allow_without_safety_copy"],
            allow_empty=request.get("allow_empty", False),  # an operation of an earlier version does not tell
            exclusions=exclusions,
            taken_at=taken_at,
            keep_hours=self._settings.keep_replaced_hours,
            keep_free=self._settings.keep_free_bytes,
            foreign=foreign,
            facts=facts or {},
        )

    def _safety(
        self,
        source: BackupSource,
        context: JobContext,
        journal: Journal,
        record: Callable[[Journal], Awaitable[None]],
    ) -> SafetyBackup:
        return SafetyBackup(self._database, self._writer, self._keys, source, context, journal, record, self._opened)

    async def settle(self, operation: Operation, context: JobContext, *, resumes: bool) -> dict[int, Result]:
        """Finish or undo whatever an earlier attempt had begun to change; by part, what became of it. Comes first,
        before anything that can fail. `resumes`: this attempt goes on; false: the operation is given up.

        Raises what keeps a part from being settled when it goes on; otherwise that is told, and tried again later. So
        it is for one of several places that are each restored: the others need not wait for it.
        """
        settled: dict[int, Result] = {}
        for journal in operation.journal.values():
            journal.setdefault("domain_id", operation.domain_id)  # one of an earlier version does not tell
        parts = {int(number): journal for number, journal in operation.journal.items() if _begun(journal)}

        async def record(_: Journal) -> None:
            await context.record(journal=operation.journal)

        for domain_id, mine in _by_domain(parts).items():
            try:
                async with self._site(domain_id) as (domain, site):
                    for number, journal in mine.items():
                        work = self._resettled(
                            f"{operation.uid}-{number}", domain, site, journal, record, context, resumes=resumes
                        )
                        settled[number] = await self._one(number, journal, work, raises=resumes)
            except LiberuError as error:
                if resumes:
                    raise
                for number, journal in mine.items():
                    settled.setdefault(number, _unsettled(number, journal, error))
        return settled

    async def _one(self, number: int, journal: Journal, work: Awaitable[Settled], *, raises: bool) -> Result:
        try:
            done = await work
        except LiberuError as error:
            if raises and (REPLICA not in journal or isinstance(error, OperationCancelled | OwnershipLost)):
                raise
            return _unsettled(number, journal, error)
        status = {"done": "completed", "lost": "failed"}.get(done.state, done.state)
        return {**_named(number, journal), "status": status, "message": done.detail}

    async def _resettled(
        self,
        name: str,
        domain: Domain,
        site: DomainSite,
        journal: Journal,
        saved: Callable[[Journal], Awaitable[None]],
        context: JobContext,
        *,
        resumes: bool,
    ) -> Settled:
        record = recorder(journal, saved)
        if left(journal) and site.database(journal["kind"], journal["name"]) is None:
            told = None if resumes else await self._unmade(domain, site, journal, record)
            return Settled(detail=told)  # nothing can have been restored into it
        if await self._gone(site, journal, record):
            return Settled(detail=_GONE)
        source = BackupSource("a restore", domain, site, journal["kind"], journal["name"])
        component = await site.rebuilt(journal["kind"], journal["name"], journal)
        settled = await component.settle(
            RestoreContext(
                operation=name,
                clear_existing=False,
                allow_in_place=False,
                confirm=context.beat,
                journal=journal,
                record=record,
                safety=self._safety(source, context, journal, record),
                resumes=resumes,
                keep_hours=self._settings.keep_replaced_hours,
                keep_free=self._settings.keep_free_bytes,
            )
        )
        if settled.state == "done":
            await self._creating.keep(journal, record)
        elif not resumes and (told := await self._unmade(domain, site, journal, record)):
            return replace(settled, detail="; ".join(filter(None, (settled.detail, told))))
        return settled

    @staticmethod
    async def _gone(site: DomainSite, journal: Journal, record: Callable[[Journal], Awaitable[None]]) -> bool:
        """Whether a part's place is gone for good: then there is nothing to settle or to remove."""
        if not await site.gone(journal):
            return False
        await record({"unsettled": False, "tidy": False})
        return True

    async def _unmade(
        self, domain: Domain, site: DomainSite, journal: Journal, record: Callable[[Journal], Awaitable[None]]
    ) -> str | None:
        """A database that was made for a restore that is given up goes again, once nothing in it is unsettled."""
        return None if journal.get("unsettled") else await self._creating.undo(domain.id, site, journal, record)

    async def put_right(
        self, operation: Operation, restoring: RestoreContext, error: LiberuError, context: JobContext
    ) -> tuple[LiberuError, list[Result]]:
        """After a part has failed: what it left of a tree is undone and removed where the site runs *now*, which may
        be another pod than the one that failed. The error to tell, and warnings of what is still there."""
        journal = restoring.journal
        if not journal.get("plan") or not (journal.get("unsettled") or journal.get("tidy")):
            return error, []
        try:
            await context.beat()
        except OperationCancelled:
            pass
        except OwnershipLost:
            return error, []

        async def saved(_: Journal) -> None:
            await context.record(journal=operation.journal)

        try:
            async with self._site(journal["domain_id"]) as (domain, site):
                if await self._gone(site, journal, recorder(journal, saved)):
                    return error, []
                if journal["unsettled"]:
                    work = self._resettled(restoring.operation, domain, site, journal, saved, context, resumes=False)
                    error = _settled_after(error, await work)
                if SwapPlan(**journal["plan"]).state != "swapped":
                    component = await site.rebuilt(journal["kind"], journal["name"], journal)
                    await component.tidy(journal)
                    await saved(journal)
        except LiberuError as left:
            log.warning("What %s has left is not seen to yet: %s", restoring.operation, left.message)
            return error, [] if journal["unsettled"] else [_left_behind(journal, left.message)]
        return error, []

    async def anew(
        self, operation: Operation, restoring: RestoreContext, error: LiberuError, context: JobContext
    ) -> bool:
        """Whether a part that was cut off can be restored as if nothing had been: what its try has left is undone and
        removed, where the site runs now, and its journal begins anew. Not once the new is live, or when it cannot be
        told; what became of it then is told by `error`."""
        journal = restoring.journal
        if journal.get(COMMITTING):
            return False

        async def saved(_: Journal) -> None:
            await context.record(journal=operation.journal)

        try:
            async with self._site(journal["domain_id"]) as (domain, site):
                if _begun(journal):
                    work = self._resettled(restoring.operation, domain, site, journal, saved, context, resumes=False)
                    settled = await work
                    if settled.state not in ("untouched", "undone"):
                        error.message = "; ".join(filter(None, (error.message, settled.detail)))
                        return False
                if journal.get("tidy"):
                    component = await site.rebuilt(journal["kind"], journal["name"], journal)
                    await component.tidy(journal)
            if journal.get("unsettled") or journal.get("tidy") or left(journal):
                await saved(journal)
                return False
            for key in journal.keys() - _LASTING - ({VOLUME, REPLICA} if REPLICA in journal else set()):
                del journal[key]
            await saved(journal)
        except LiberuError as problem:
            log.warning("%s is not restored again: %s", restoring.operation, problem.message)
            return False
        return True

    @asynccontextmanager
    async def _site(self, domain_id: int) -> AsyncGenerator[tuple[Domain, DomainSite], None]:
        async with self._database.transaction() as session:
            domain = await DomainRepository(session).get(domain_id)
        if domain is None:
            raise NotFound(f"Domain {domain_id} is gone: what a restore changed there cannot be settled")
        async with self._components.opened(domain) as site:
            yield domain, site

    async def abandoned(self, operation: Operation, status: str, message: str | None) -> Outcome:
        """Of an operation that was cancelled or has failed as a whole: what it had begun to change is undone, or
        finished, first. What cannot be settled now is failed, says where what is old lies, and is tried again."""
        context = JobContext(operation.uid, operation.attempt, self._database, _no_step)
        settled = await self.settle(operation, context, resumes=False)
        for key, journal in operation.journal.items():
            if REPLICA in journal:  # each is named, also one that was not begun
                settled.setdefault(int(key), {**_named(int(key), journal), "status": "untouched", "message": None})
        parts = [settled[number] for number in sorted(settled)]
        told = [f"{called(part)}: {part['message']}" for part in parts if part["message"]]
        code = None
        for part in parts:
            if part["status"] == "unsettled":
                status, code = "failed", part["code"]
        if status == "failed" and any(part["status"] == "completed" for part in parts):
            status = "partial"
        text = "; ".join([*([message] if message else []), *told]) or None
        return Outcome(status, {"components": parts} if parts else {}, text, self.remains(operation), code)

    def remains(self, operation: Operation) -> Apply:
        """Records what the operation leaves to be settled or removed; its own journal is of no use any more."""
        rows = [
            RestoreRemains(
                operation_uid=operation.uid,
                part=number,
                domain_id=journal["domain_id"],
                kind=journal["kind"],
                name=journal["name"],
                journal=journal,
                unsettled=bool(journal.get("unsettled")),
                due_at=_due(journal),
            )
            for number, journal in operation.journal.items()
            if journal.get("unsettled") or journal.get("tidy") or left(journal)
        ]

        safety = safety_ended(operation.journal)

        async def apply(session: AsyncSession) -> None:
            await safety(session)
            for row in rows:
                await RemainsRepository(session).replace(row)
            await OperationRepository(session).forget_journal(operation.uid)

        return apply

    async def tidy(self, operation: Operation) -> None:
        """Remove what an operation that has ended has replaced, as far as it is not kept."""
        async with self._database.transaction() as session:
            rows = await RemainsRepository(session).of_operation(operation.uid)
        seen = await self._see_to([row for row in rows if not row.unsettled and row.due_at <= now()], None)
        journals = {row.part: row.journal for row in rows}
        warnings = {
            key_of(part): _left_behind(journals[str(key_of(part))], part["message"])
            for part in seen
            if part["status"] == "failed"
        }
        if warnings:
            async with self._database.transaction() as session:
                await OperationRepository(session).add_warnings(operation.uid, warnings)

    async def settle_domain(self, domain: Domain, context: JobContext) -> None:
        """Before a backup or a restore of a domain: no earlier restore of it may be half-done, and what is due, or
        could not be removed before, is removed. Raises what keeps it from being settled."""
        async with self._database.transaction() as session:
            rows = await RemainsRepository(session).of_domain(domain.id)
        unsettled = [row for row in rows if row.unsettled]
        for done in await self._see_to(unsettled, context):
            if done["status"] == "failed":
                raise done["error"]
        await self._see_to(
            [row for row in rows if not row.unsettled and (row.attempts or row.due_at <= now())], context
        )

    async def clear_staging(self, domain: Domain, site: DomainSite, context: JobContext) -> list[str]:
        """Find by their names what earlier restores have left where the domain runs, and remove it; what stays, since
        nothing here says that it may go. What is one of the remains is seen to as such."""
        stays: list[str] = []
        for kind, there, folder, found in (await site.staged())[:_MOST_FOUND]:
            name = _STAGED.fullmatch(found.name)
            async with self._database.transaction() as session:
                uid, part = name.groups() if name else ("", "")
                operation = await OperationRepository(session).by_uid(uid)
                if operation is not None and operation.status in ACTIVE:
                    continue
                if any(row.part == part for row in await RemainsRepository(session).of_operation(uid)):
                    continue
                plan = SwapPlan(folder, f"{uid}-{part}", "entries", clear_existing=False, staging=found.inode)
                if operation is None or operation.domain_uid != domain.uid or found.holds_old:
                    pod = f" in {there[REPLICA][PLACE]['pod']}" if REPLICA in there else ""
                    stays.append(f"{folder.rstrip('/')}/{found.name}{pod}")
                    continue
                row = RestoreRemains(
                    operation_uid=uid, part=part, domain_id=domain.id, kind=kind, name=kind, due_at=now(),
                    journal={"kind": kind, "name": kind, "domain_id": domain.id, **there, **journalled(plan)},
                )  # fmt: skip
                await RemainsRepository(session).replace(row)
            await self._see_to([row], context)
        return stays

    async def make_room(self, domain: Domain) -> bool:
        """Remove what restores of a domain have replaced, though it would be kept for longer; whether any was. What
        came meanwhile and is nowhere else stays."""
        async with self._database.transaction() as session:
            rows = await RemainsRepository(session).of_domain(domain.id)
        rows = [row for row in rows if not row.unsettled and not row.journal.get("only_copy")]
        done = await self._see_to(rows, None)
        return any(one["status"] == "completed" for one in done)

    async def see_to(self, domain_id: int, context: JobContext) -> list[Result]:
        """All that is due of a domain; what became of each."""
        async with self._database.transaction() as session:
            rows = await RemainsRepository(session).of_domain(domain_id)
        return await self._see_to([row for row in rows if row.due_at <= now()], context)

    async def _see_to(self, rows: Sequence[RestoreRemains], context: JobContext | None) -> list[Result]:
        if not rows:
            return []
        try:
            async with self._site(rows[0].domain_id) as (domain, site):
                seen = [await self._finish(row, domain, site, context) for row in rows]
                return [one for one in seen if one is not None]
        except LiberuError as error:
            return [await self._postpone(row, error) for row in rows]

    async def _finish(
        self, row: RestoreRemains, domain: Domain, site: DomainSite, context: JobContext | None
    ) -> Result | None:
        """None when an operator has taken it over meanwhile."""
        async with self._database.transaction() as session:
            if not await RemainsRepository(session).there(row):
                return None
        journal = row.journal = dict(row.journal)
        detail = None

        async def saved(_: Journal) -> None:
            row.unsettled = bool(journal.get("unsettled"))
            await self._save(row)

        record = recorder(journal, saved)
        try:
            if row.unsettled and context is not None:
                name = f"{row.operation_uid}-{row.part}"
                work = self._resettled(name, domain, site, journal, saved, context, resumes=False)
                detail = (await work).detail
                if journal.get("keep_hours"):  # it was finished: what it replaced is kept as after any restore
                    row.due_at, row.attempts, row.error_message = _due(journal), 0, None
                    await self._save(row)
                    return self._seen(row, detail)
            if journal.get("tidy") and not await self._gone(site, journal, record):
                component = await site.rebuilt(row.kind, row.name, journal)
                await component.tidy(journal)
            if left(journal):
                detail = await self._unmade(domain, site, journal, record)
                if left(journal):
                    return await self._postpone(row, ComponentError(detail or f"{row.name} is not settled yet"))
        except LiberuError as error:
            return await self._postpone(row, error)
        async with self._database.transaction() as session:
            await RemainsRepository(session).forget(row)
        return self._seen(row, detail)

    @staticmethod
    def _seen(row: RestoreRemains, detail: str | None) -> Result:
        return {**_named(int(row.part), row.journal), "operation": row.operation_uid, "status": "completed",
                "message": detail}  # fmt: skip

    async def _postpone(self, row: RestoreRemains, error: LiberuError) -> Result:
        wait = min(_FIRST_RETRY * 2 ** min(row.attempts, 12), _LAST_RETRY)
        row.attempts, row.error_message, row.due_at = row.attempts + 1, error.message, now() + wait
        await self._save(row)
        log.warning("What operation %s left is not seen to yet: %s", row.operation_uid, error.message)
        return {**_named(int(row.part), row.journal), "operation": row.operation_uid, "status": "failed",
                "code": error.code, "message": error.message, "error": error}  # fmt: skip

    async def _save(self, row: RestoreRemains) -> None:
        async with self._database.transaction() as session:
            await RemainsRepository(session).save(row)


async def _no_step(name: str, work: Callable[[], Awaitable[Result]]) -> Result:
    return await work()


def recorder(journal: Journal, saved: Callable[[Journal], Awaitable[None]]) -> Callable[[Journal], Awaitable[None]]:
    """Of a part: takes what changes in its journal, and saves all of it."""

    async def record(entry: Journal) -> None:
        journal.update(entry)
        await saved(journal)

    return record


def _settled_after(error: LiberuError, settled: Settled) -> LiberuError:
    """Why a part failed whose swap stopped half-way, once that is settled."""
    why = error.__cause__ if isinstance(error, SwapUnfinished) and isinstance(error.__cause__, LiberuError) else error
    why.message = "; ".join(filter(None, (why.message, settled.detail)))
    return why


def _left_behind(journal: Journal, why: str) -> Result:
    """A warning."""
    plan = journal.get("plan")
    subject = SwapPlan(**plan).staging_path if plan else journal["name"]
    return {"code": STAGING_LEFT, "message": NOT_REMOVED.format(why=why), "subject": subject}


def _begun(journal: Mapping[str, Any]) -> bool:
    """Whether anything was journalled beside what it is of, and that it was made and stays."""
    return bool(journal.keys() - {"kind", "name", "domain_id", VOLUME, CREATED, REPLICA}) or left(journal)


def _due(journal: Mapping[str, Any]) -> datetime:
    """When somebody is to see to it."""
    return now() + timedelta(hours=0 if journal.get("unsettled") else journal.get("keep_hours", 0))


def _by_domain(parts: Mapping[int, Journal]) -> dict[int, dict[int, Journal]]:
    found: dict[int, dict[int, Journal]] = {}
    for number, journal in parts.items():
        found.setdefault(journal["domain_id"], {})[number] = journal
    return found


def _named(number: int, journal: Mapping[str, Any]) -> Result:
    """Of several places that are each restored, which it is."""
    found = {"number": number, "kind": journal["kind"], "name": journal["name"]}
    if (replica := journal.get(REPLICA)) is not None:
        found |= {"number": replica["number"] or number, "key": number, PLACE: replica["place"]}
    return found


def key_of(part: Mapping[str, Any]) -> Any:
    """By what a part in a result is journalled."""
    return part.get("key", part["number"])


def called(part: Mapping[str, Any]) -> str:
    """A part in a result, for people."""
    pod = f" in {part[PLACE]['pod']}" if part.get("key") is not None else ""
    return f"{part['kind']} {part['name']}{pod}"


def _unsettled(number: int, journal: Journal, error: LiberuError) -> Result:
    """A part whose journal does not say that it is in between has changed nothing."""
    status = "unsettled" if journal.get("unsettled") else "untouched"
    return {**_named(number, journal), "status": status, "code": error.code, "message": error.message}
