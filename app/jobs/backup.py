"""The backup job: one durable step per component, then the commit."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import asdict

from sqlalchemy.ext.asyncio import AsyncSession

from app.components.base import STAGING_LEFT
from app.db.base import now
from app.db.models import Backup, Destination, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.repositories.schedules import ScheduleRepository
from app.db.session import Database
from app.errors import LiberuError, NoSpace, NotFound
from app.jobs.context import JobContext, Result
from app.jobs.outcome import Apply, Outcome
from app.jobs.proof import Prover, unproved
from app.jobs.restoring import Restoring
from app.jobs.runner import Job
from app.jobs.tries import Tries
from app.jobs.writer import BackupRun, BackupWriter, Target, ended, folder_of, recorded
from app.security.keys import KeyRing
from app.services.components import OBJECTS, ComponentFactory, Planned, planned, tell_replicas
from app.services.destinations import DestinationService
from app.services.retention import RetentionPolicy
from app.settings import JobSettings
from app.sizes import human_size

log = logging.getLogger(__name__)
_NO_DATABASES = ("files", "mail", OBJECTS)
_NOT_OURS = (
    "left by an earlier restore, and nothing here says that it may go; not backed up. Remove it once nobody needs it"
)


class BackupJob(Job):
    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        destinations: DestinationService,
        keys: KeyRing,
        restoring: Restoring,
        prover: Prover,
        settings: JobSettings,
    ) -> None:
        self._database = database
        self._writer = BackupWriter()
        self._components = components
        self._destinations = destinations
        self._keys = keys
        self._restoring = restoring
        self._prover = prover
        self._settings = settings

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        if operation.attempt > 1:  # what was stored may be gone already, if it was cancelled before
            await context.beat()
        backup, domain, destinations = await self._load(operation)
        await self._restoring.settle_domain(domain, context)  # a half-done site is no site to back up
        required = {copy["destination_id"]: copy["required"] for copy in operation.request.get("copies", [])}
        kept_days = await self._kept_days(backup)
        async with (
            self._components.opened(domain, context.waits) as site,
            self._destinations.mirrored(destinations, kept_days) as store,
        ):
            run = BackupRun(
                backup=backup,
                domain=domain,
                site=site,
                folder=folder_of(backup, self._keys.installation, operation.attempt),
                store=store,
                targets=[Target(found.id, found.name, required.get(found.id, True)) for found in destinations],
                recipients=self._destinations.shared_recipients(destinations),
                items=planned(domain, backup.type),
            )
            return await self._run(run, operation, context)

    async def _run(self, run: BackupRun, operation: Operation, context: JobContext) -> Outcome:
        # A durable step: after a restart the same numbers.
        plan = await context.step("plan", lambda: self._plan(run, context))
        run.items = [Planned(**item) for item in plan["items"]]
        if operation.attempt == 1:
            await self._check_room(run)
        for item in run.items:
            context.track(item.number, item.name, "pending")
        limit = asyncio.Semaphore(self._settings.components)
        opened = {item.number: asyncio.Event() for item in run.items if item.kind not in _NO_DATABASES}
        async with asyncio.TaskGroup() as group:
            asked = operation.request.get("proof")  # one of an earlier version does not tell
            tasks = [
                group.create_task(self._component(run, item, context, limit, opened, asked)) for item in run.items
            ]
        results = [task.result() for task in tasks]
        _name(plan.get("caches", []), "cache_not_backed_up", "a cache: not backed up", results)
        _name(plan.get("left", []), STAGING_LEFT, _NOT_OURS, results)
        good = [result for result in results if result["status"] == "completed"]
        if not good:
            await run.store.abandon(run.folder)
            return self._outcome(run, results, None)
        metadata = operation.request.get("panel_metadata")
        operation.journal["publishing"] = True
        await context.record(journal=operation.journal)
        committed = await context.step("commit", lambda: self._writer.commit(run, results, context.beat, metadata))
        await run.store.abandon_lost(run.folder)
        return self._outcome(run, results, committed)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        # Parts of a failed attempt are left to the sweep: another one, that has taken over from us, may use them.
        if status == "cancelled" or operation.attempt > 1 or operation.journal.get("publishing"):
            await self._retract(operation, parts=status == "cancelled")
        return Outcome(status, {}, message, set_status(operation.backup_id, status, message))

    async def _retract(self, operation: Operation, *, parts: bool) -> None:
        """A backup that is not recorded as made must not be found at a destination."""
        try:
            async with self._database.transaction() as session:
                backup = await BackupRepository(session).get(operation.backup_id or 0)
                places = await DestinationRepository(session).named(operation.destinations)
            if backup is None:
                return
            async with self._destinations.mirrored(places) as store:
                folder = folder_of(backup, self._keys.installation, operation.attempt)
                await store.retract(folder, parts=parts)
        except LiberuError as error:
            log.warning("What operation %s has stored could not be removed: %s", operation.uid, error.message)

    async def _plan(self, run: BackupRun, context: JobContext) -> Result:
        for item in run.items:  # the site may have to be waited for
            context.track(item.number, item.name, "pending")
        return {
            "items": [asdict(item) for item in run.items],
            "caches": await run.site.caches(run.backup.type),
            "left": await self._restoring.clear_staging(run.domain, run.site, context),
        }

    async def _check_room(self, run: BackupRun) -> None:
        """Raises NoSpace before anything is read. What a first backup will take cannot be known."""
        async with self._database.transaction() as session:
            sizes = await BackupRepository(session).last_stored_sizes(run.domain.uid)
        expected = sum(sizes.get((item.kind, item.name), 0) for item in run.items)
        for target in run.targets:
            free = await run.store.free_bytes(target.id)
            if free is not None and free < expected + self._settings.reserve_bytes:
                needed, reserve = expected + self._settings.reserve_bytes, self._settings.reserve_bytes
                run.store.drop(target.id, NoSpace(
                    f"There is too little space: {human_size(free)} are free, {human_size(needed)} are needed: the "
                    f"last backup took {human_size(expected)}, and {human_size(reserve)} are kept free. Free some, "
                    "or choose another destination"
                ))  # fmt: skip
        run.store.require_one()

    async def _kept_days(self, backup: Backup) -> int | None:
        """What its schedule's own retention says; None: the destination's does."""
        if backup.schedule_id is None:
            return None
        async with self._database.transaction() as session:
            rules = (await ScheduleRepository(session).retentions()).get(backup.schedule_id)
        return None if rules is None else RetentionPolicy(**rules).days

    async def _load(self, operation: Operation) -> tuple[Backup, Domain, list[Destination]]:
        async with self._database.transaction() as session:
            backups = BackupRepository(session)
            backup = await backups.get(operation.backup_id or 0)
            domain = await DomainRepository(session).get(operation.domain_id or 0)
            if backup is None or domain is None:
                raise NotFound("The backup or its domain was deleted before the operation began")
            further = [copy["destination_id"] for copy in operation.request.get("copies", [])]
            destinations = await DestinationRepository(session).named([backup.destination_id, *further])
            await backups.set_running(backup.id, now())
        return backup, domain, destinations

    async def _component(
        self,
        run: BackupRun,
        item: Planned,
        context: JobContext,
        limit: asyncio.Semaphore,
        opened: dict[int, asyncio.Event],
        asked: str | None,
    ) -> Result:
        async def work() -> Result:
            if item.kind == "files":  # database snapshots open before the files are read
                await asyncio.gather(*(event.wait() for event in opened.values()))
            try:
                result = await self._stored(run, item, context, limit, opened.get(item.number), asked)
            except LiberuError as error:
                result = {**asdict(item), "status": "failed", "code": error.code, "message": error.message}
            context.track(item.number, item.name, result["status"])
            return result

        try:
            return await context.step(f"component-{item.number}", work)
        finally:  # also when a restart finds the step's result recorded and runs nothing
            if item.number in opened:
                opened[item.number].set()

    async def _stored(
        self,
        run: BackupRun,
        item: Planned,
        context: JobContext,
        limit: asyncio.Semaphore,
        opened: asyncio.Event | None,
        asked: str | None,
    ) -> Result:
        """One component, stored, and then proved where that is wanted; while it is, or while its place is waited for,
        others are dumped."""
        tries = Tries(self._settings, context, run.site, item.number, item.kind, item.name)
        result = await tries.run(lambda: self._tried(run, item, context, limit, opened, asked, tries))
        return {**result, "warnings": [*result["warnings"], *tries.warnings()]}

    async def _tried(
        self,
        run: BackupRun,
        item: Planned,
        context: JobContext,
        limit: asyncio.Semaphore,
        opened: asyncio.Event | None,
        asked: str | None,
        tries: Tries,
    ) -> Result:
        async with AsyncExitStack() as held:
            async with limit:
                context.track(item.number, item.name, "running")
                component = await run.site.build(
                    item.kind, item.name, reads=True, sealed=bool(run.recipients), frozen=True
                )
                tries.began()
                wanted = self._prover.wanted(asked)
                dump = await (component.dump_to_prove() if wanted else component.dump())
                if dump.proof is not None:
                    held.push_async_callback(dump.proof.close)
                tell_replicas(dump.report, run.site.serving(item.kind, item.name), "read")
                result = await self._writer.store(run, item, dump, context, opened)
                left = await run.site.thaw(item.kind, item.name)
                result["warnings"] += [warning.model_dump() for warning in left]
            if result["incomplete"] or not wanted:
                return result
            if dump.proof is None:
                known = asked is None or item.kind in _NO_DATABASES
                return result if known else unproved(result, item, "no admin account is configured for it")
            context.track(item.number, item.name, "proving")
            return await self._prover.prove(run, item, component, dump.proof, result, context)

    def _outcome(self, run: BackupRun, results: list[Result], committed: Result | None) -> Outcome:
        status, missing = ended(run, results, committed)
        failures = [f"{r['kind']} {r['name']}: {r['message']}" for r in results if r["status"] == "failed"]
        lacking = [
            f"{r['kind']} {r['name']}: {lack['subject'] or ''} {lack['message']}".strip()
            for r in results
            for lack in r.get("incomplete", [])
        ]
        message = "; ".join([*failures, *lacking[:20], *missing]) or None
        codes = {str(r["code"]) for r in results if r["status"] == "failed" and r.get("code")}
        code = codes.pop() if len(codes) == 1 else None  # one reason for all of it
        apply = recorded(run, results, committed, message)
        return Outcome(status, {"backup_id": run.backup.id}, message, apply, code)


def _name(subjects: list[str], code: str, message: str, results: list[Result]) -> None:
    """What is left out on purpose is said with the first part that there is."""
    good = [result for result in results if result["status"] == "completed"]
    for part in good[:1]:
        part["warnings"] += [{"code": code, "message": message, "subject": subject} for subject in subjects]


def set_status(backup_id: int | None, status: str, message: str | None) -> Apply:
    async def apply(session: AsyncSession) -> None:
        backup = await BackupRepository(session).get(backup_id or 0)
        if backup is not None and backup.status in ("pending", "running"):
            backup.status, backup.error_message, backup.completed_at = status, message, now()

    return apply
