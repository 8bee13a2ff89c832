"""The restore job: authenticate, preflight, then one component after the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.copies import Copy, CopySource
from app.archives.manifest import ComponentDetails, Details
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import FOREIGN, PLACE, Component, Report, RestoreContext, still_ours
from app.db.models import Backup, BackupCopy, Destination, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import ConsentRequired, JobError, LiberuError, NoSpace, NotFound, OwnershipLost
from app.jobs.context import JobContext, Result
from app.jobs.copies import marked, used
from app.jobs.creating import KEY as CREATED
from app.jobs.creating import Creating
from app.jobs.outcome import Outcome
from app.jobs.replicas import PartAt, absent, all_done, parts_at
from app.jobs.restoring import Restoring, called
from app.jobs.runner import Job
from app.jobs.safety import BackupSource
from app.jobs.tries import Tries, cut
from app.security.keys import KeyRing
from app.services.components import ComponentFactory, DomainSite, Planned, begun_on, facts_of, tell_replicas
from app.services.database_targets import DatabaseTarget, database_targets
from app.services.destinations import DestinationService
from app.settings import JobSettings

Place = tuple[Destination, BackupCopy]
#: Of an archive that may hold nothing but folders: a bulk restore looks into those before it starts.
_SMALL = 64 << 10
#: The mode of a part whose database is not there yet.
_CREATE = "create"


@dataclass(slots=True)
class _Run:
    """`store`: what is read, maybe as it was at a time; `present`: the same destination as it is, to keep things.
    `done`, `unfit`: by the part's key, what an earlier attempt has done, and why it cannot be restored there."""

    backup: Backup
    domain: Domain
    site: DomainSite
    copies: CopySource
    done: set[int]
    destination: Destination
    store: BackupStore
    present: BackupStore
    unfit: dict[int, Result] = field(default_factory=dict)
    targets: dict[int, DatabaseTarget] = field(default_factory=dict)

    def target(self, part: ComponentDetails) -> tuple[str, str]:
        """What of the domain a part of the backup is restored into: kind and name."""
        found = self.targets.get(part.number)
        return (part.kind, part.name) if found is None else (found.engine, found.name)


class RestoreJob(Job):
    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        destinations: DestinationService,
        keys: KeyRing,
        restoring: Restoring,
        creating: Creating,
        settings: JobSettings,
    ) -> None:
        self._creating = creating
        self._settings = settings
        self._database = database
        self._components = components
        self._destinations = destinations
        self._keys = keys
        self._restoring = restoring

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        """What an earlier attempt had begun to change is settled before anything else."""
        settled = await self._restoring.settle(operation, context, resumes=True)
        done = {number: part for number, part in settled.items() if part["status"] == "completed"}
        unsettled = {number: part for number, part in settled.items() if part["status"] == "unsettled"}
        if all_done(operation, done):
            outcome = _resumed(done)
            outcome.apply = self._restoring.remains(operation)
            return outcome
        backup, domain, places, identities = await self._load(operation)
        if not operation.request["dry_run"]:
            await self._restoring.settle_domain(domain, context)
        async with self._components.opened(domain, context.waits) as site:
            return await self._from_any(
                backup, domain, site, identities, places, set(done), unsettled, operation, context
            )

    async def _from_any(
        self,
        backup: Backup,
        domain: Domain,
        site: DomainSite,
        identities: list[str],
        places: list[Place],
        done: set[int],
        unfit: dict[int, Result],
        operation: Operation,
        context: JobContext,
    ) -> Outcome:
        """From the first copy that can be read; a part that turns out to be damaged there, from another one."""
        copies = [
            Copy(found.id, found.name, copy.manifest_key, partial(self._destinations.opened, found, copy.as_of))
            for found, copy in places
        ]
        uids = {"backup_uid": backup.uid, "domain_uid": backup.domain_uid}
        async with CopySource(copies, identities, **uids) as source:
            copy, details = await source.open(operation.request["components"])
            [destination] = [found for found, _ in places if found.id == copy.id]
            async with self._destinations.opened(destination) as present:
                run = _Run(backup, domain, site, source, done, destination, source.store(copy), present, unfit)
                outcome = await self._run(run, details, operation, context)
            damaged, remains = marked(backup.id, source.problems), self._restoring.remains(operation)

            async def apply(session: AsyncSession) -> None:
                await damaged(session)
                await remains(session)

            outcome.apply = apply
            return outcome

    async def _run(self, run: _Run, details: Details, operation: Operation, context: JobContext) -> Outcome:
        wanted = [c for c in details.components if c.number in operation.request["components"]]
        request = operation.request
        parts = [Planned(part.number, part.kind, part.name) for part in wanted]
        names = request.get("databases") or {}  # an operation of an earlier version does not tell
        run.targets = database_targets(run.domain, parts, names, create=request.get("create", False))
        for part in wanted:
            context.track(part.number, part.name, "pending")
        if not request["dry_run"]:
            await self._restoring.clear_staging(run.domain, run.site, context)
        everywhere = await parts_at(run.site, run.domain.id, wanted, details.components, operation, context)
        for one in everywhere:
            context.track(one.key, one.part.name, "pending")
            context.note(one.key, **({} if one.pod is None else {"pod": one.pod}))
        prepared = await self._preflight(run, everywhere, operation, context)
        if operation.request["dry_run"]:
            return await self._trial(run, everywhere, prepared, operation, context)
        results = []
        for one in everywhere:
            results.append(await self._step(run, one, operation, context))
        results += absent(everywhere)
        _tell_objects(operation, results)
        return _outcome(results, details)

    async def _trial(
        self, run: _Run, everywhere: list[PartAt], prepared: list[Result], operation: Operation, context: JobContext
    ) -> Outcome:
        """What a restore would change. A place that it could not go into is named, and the others are told."""
        checks = operation.request.get("checks_only", False)
        for one, told in zip(everywhere, prepared, strict=True):
            small = one.part.kind == "files" and one.part.plain_size <= _SMALL
            if told.get("mode") == _CREATE or (checks and not small) or one.key in run.unfit:
                continue
            tries = Tries(self._settings, context, run.site, one.key, *run.target(one.part))
            rehearsed = partial(self._rehearsed, run, one, operation, context, tries)
            told["facts"] = await tries.run(rehearsed, one.volume)  # which changes nothing
            if warnings := tries.warnings():
                told["warnings"] = warnings
            if checks and (needs := told["facts"].get("needs")):
                raise ConsentRequired("; ".join(needs.values()))
        failures = [part for part in [*prepared, *absent(everywhere)] if "code" in part]
        told_all = {"dry_run": True, "components": [*prepared, *absent(everywhere)]}
        if not failures:
            return Outcome("completed", told_all)
        return Outcome("partial", told_all, _failures(failures), code=failures[0]["code"])

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return await self._restoring.abandoned(operation, status, message)

    async def tidy(self, operation: Operation) -> None:
        """What was replaced is kept until the operation has ended."""
        await self._restoring.tidy(operation)

    async def _load(self, operation: Operation) -> tuple[Backup, Domain, list[Place], list[str]]:
        """With every copy that may be used, the primary first."""
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).get(operation.backup_id or 0)
            domain = await DomainRepository(session).get(operation.domain_id or 0)
            if backup is None or domain is None:
                raise NotFound("The backup or its domain was deleted before the operation began")
            chosen = operation.request.get("destination_id")
            copies = [copy for copy in backup.stored_copies if chosen in (None, copy.destination_id)]
            destinations = await DestinationRepository(session).named([copy.destination_id for copy in copies])
        sealed = operation.request.get("identity")
        given = [self._keys.cipher.open(sealed)["identity"]] if sealed else []
        places = list(zip(destinations, copies, strict=True))
        return backup, domain, places, [*given, self._keys.identity]

    async def _preflight(
        self, run: _Run, everywhere: list[PartAt], operation: Operation, context: JobContext
    ) -> list[Result]:
        """Every target ready, before the first is touched. Raises what is wrong; of one of several places that is not
        there, only where none of them is."""
        prepared = []
        for one in everywhere:
            told = _named(run, one)
            if one.key not in run.done and one.key not in run.unfit:
                tries = Tries(self._settings, context, run.site, one.key, *run.target(one.part))
                ready = partial(self._ready, run, one, operation, context)
                try:
                    told |= await tries.run(ready, one.volume) | _placed(run, one)
                except LiberuError as error:
                    self._unfit(run, one, everywhere, error)
            prepared.append(told | run.unfit.get(one.key, {}))
        return prepared

    @staticmethod
    def _unfit(run: _Run, one: PartAt, everywhere: list[PartAt], error: LiberuError) -> None:
        """One of several places is left out when it is not there, or others have been restored already. Raises what
        is wrong with any other part, and what can be put right before anything is touched."""
        if one.pod is None or isinstance(error, JobError):
            raise error
        if not (run.done or cut(error, again=True)):
            error.message = f"{one.pod}: {error.message}"
            raise error
        run.unfit[one.key] = {"code": error.code, "message": error.message}
        if {other.key for other in everywhere if other.part is one.part} <= run.unfit.keys():
            raise error

    async def _ready(self, run: _Run, one: PartAt, operation: Operation, context: JobContext) -> Result:
        """How one part will be restored. Raises what is wrong."""
        part = one.part
        made = await self._made(run, part, operation)
        if made is not None:
            return {"mode": _CREATE, "creates": made}
        component = await self._component(run, one, operation)
        restoring = self._context(run, operation, one, context)
        return {"mode": await self._fit(component, run, restoring, part, trial=operation.request["dry_run"])}

    async def _made(self, run: _Run, part: ComponentDetails, operation: Operation) -> Result | None:
        """What has to be made, or was by an earlier attempt, before there is a database to restore into. Raises what
        speaks against it."""
        target = run.targets.get(part.number)
        if target is None or not operation.request.get("create", False):
            return None
        if noted := operation.journal.get(str(part.number), {}).get(CREATED):
            return {"database": noted["database"], "account": noted["account"]}
        missing = await self._creating.missing(run.site, target)
        return {"database": True, "account": missing.account} if missing.database else None

    async def _fit(
        self, component: Component, run: _Run, restoring: RestoreContext, part: ComponentDetails, *, trial: bool
    ) -> str:
        """What earlier restores have replaced is kept only as long as there is room."""
        try:
            return await component.preflight(restoring, part.plain_size)
        except (NoSpace, ConsentRequired):
            if trial or not await self._restoring.make_room(run.domain):
                raise
            return await component.preflight(restoring, part.plain_size)

    async def _rehearsed(
        self, run: _Run, one: PartAt, operation: Operation, context: JobContext, tries: Tries
    ) -> dict[str, Any]:
        """What a restore would change, as far as the archive and what is live tell it."""
        component = await self._component(run, one, operation)
        tries.began()

        async def rehearse(plain: ByteStream) -> Report:
            restoring = self._context(run, operation, one, context)
            return await component.rehearse(context.metered(one.key, plain), restoring)

        context.track(one.key, one.part.name, "running")
        report, _ = await run.copies.component(one.part, rehearse)
        context.track(one.key, one.part.name, "completed")
        return report.facts

    async def _component(self, run: _Run, one: PartAt, operation: Operation) -> Component:
        journal = operation.journal.get(str(one.key), {})
        return await run.site.build(*run.target(one.part), volume=begun_on(journal))

    async def _step(self, run: _Run, one: PartAt, operation: Operation, context: JobContext) -> Result:
        part = one.part

        async def restore(plain: ByteStream) -> Report:
            component = await self._component(run, one, operation)
            tries.began()
            report = await component.restore(
                context.metered(one.key, plain), self._context(run, operation, one, context), part.plain_size
            )
            served = run.site.serving(*run.target(part))
            if served is not None and one.pod is not None:
                served = replace(served, others=())  # they are restored, too
            tell_replicas(report, served, "restored")
            return report

        tries = Tries(self._settings, context, run.site, one.key, *run.target(part))

        def untouched() -> bool:
            return not operation.journal.get(str(one.key), {}).get("unsettled")

        async def work() -> Result:
            base = _named(run, one)
            if (unfit := run.unfit.get(one.key)) is not None:
                context.track(one.key, part.name, "failed")
                return {**base, "warnings": [], **unfit, "status": "failed"}
            context.track(one.key, part.name, "running")
            restoring = self._context(run, operation, one, context)
            try:
                made = await self._make(run, part, operation, restoring)
                report, copy = await run.copies.component(part, restore, untouched)
            except LiberuError as error:
                if await tries.after(error, begun_on(restoring.journal)) and await self._restoring.anew(
                    operation, restoring, error, context
                ):
                    return await work()
                context.track(one.key, part.name, "failed")
                failure, warnings = await self._restoring.put_right(operation, restoring, error, context)
                told = await self._unmade(run, failure, restoring)
                ended = {"status": "failed", "code": failure.code, "message": told, "warnings": warnings}
                return {**base, **_placed(run, one), **ended}
            context.track(one.key, part.name, "completed")
            await self._creating.keep(restoring.journal, restoring.record)
            known = used(copy, run.copies.problems_of(part.number))
            facts = facts_of(report)
            warnings = [*known.pop("warnings"), *made.pop("warnings", ()), *facts["warnings"], *tries.warnings()]
            warnings += _not_whole(part)
            done = {**known, **facts, **made, **_placed(run, one)}
            return {**base, "status": "completed", **done, "warnings": warnings}

        return await context.step(f"restore-{one.key}", work)

    async def _make(
        self, run: _Run, part: ComponentDetails, operation: Operation, restoring: RestoreContext
    ) -> Result:
        """The database to restore into, where it is to be made and is not there; what to add to the part's result."""
        target = run.targets.get(part.number)
        if target is None or not operation.request.get("create", False):
            return {}
        report = Report()
        made = await self._creating.make(
            run.domain, run.site, target, part.facts, operation.uid, restoring.journal, restoring.record, report
        )
        return {} if made is None else {"created": made, "warnings": facts_of(report)["warnings"]}

    async def _unmade(self, run: _Run, error: LiberuError, restoring: RestoreContext) -> str:
        """What was made goes again, as far as it is ours to say and nothing in it is unsettled."""
        if isinstance(error, OwnershipLost) or restoring.journal.get("unsettled") or not await still_ours(restoring):
            return error.message
        told = await self._creating.undo(run.domain.id, run.site, restoring.journal, restoring.record)
        return "; ".join(filter(None, (error.message, told)))

    def _context(self, run: _Run, operation: Operation, one: PartAt, context: JobContext) -> RestoreContext:
        part = one.part
        kind, name = run.target(part)
        source = BackupSource(
            before=f"the restore of backup {run.backup.id}",
            domain=run.domain,
            site=run.site,
            destination=run.destination,
            store=run.present,
            kind=kind,
            name=name,
        )
        excluded = part.facts.get("exclusions")
        return self._restoring.context(
            operation,
            one.key,
            source,
            context,
            context.beat,
            exclusions=excluded,
            taken_at=part.started_at,
            foreign=bool(part.facts.get(FOREIGN)),
            facts=part.facts,
        )


def _named(run: _Run, one: PartAt) -> Result:
    """A part in results; `database`: where it went; `key` and `place`: in which of several places."""
    part = one.part
    named: Result = {"number": part.number, "kind": part.kind, "name": part.name, **one.told}
    return named | ({"database": run.target(part)[1]} if part.number in run.targets else {})


def _placed(run: _Run, one: PartAt) -> Result:
    """`place`: in which pod it is."""
    serving = run.site.serving(*run.target(one.part))
    elsewhere = one.pod is not None and serving is not None and serving.key != one.volume
    return {} if serving is None or elsewhere else {PLACE: serving.facts}


def _not_whole(part: ComponentDetails) -> list[Result]:
    """Files that could not be read whole when the backup was made: what is restored is not all theirs."""
    message = "could not be read whole when the backup was made; what is restored of it may be zeros"
    return [{"code": "not_whole", "message": message, "subject": name} for name in part.facts.get("not_whole", ())]


def _tell_objects(operation: Operation, results: list[Result]) -> None:
    """Said with the first part that was restored."""
    message = "a namespace's objects are made again only where components names this one"
    left = operation.request.get("objects_left", ())
    for part in [result for result in results if result["status"] == "completed"][:1]:
        known = [{"code": "objects_not_restored", "message": message, "subject": str(number)} for number in left]
        part["warnings"] = [*part["warnings"], *known]


def _resumed(done: dict[int, Result]) -> Outcome:
    """All that was asked for had been restored when the last attempt ended; the destination is not asked."""
    return Outcome("completed", {"components": [done[number] for number in sorted(done)], "panel_metadata": None})


def _outcome(results: list[Result], details: Details) -> Outcome:
    good = [result for result in results if result["status"] == "completed"]
    lacking = any(result["incomplete"] for result in good)
    status = "completed" if len(good) == len(results) and not lacking else "partial" if good else "failed"
    failures = [result for result in results if result["status"] == "failed"]
    code = next((failure["code"] for failure in failures), None)
    result = {"components": results, "panel_metadata": details.panel_metadata}
    return Outcome(status, result, _failures(failures) or None, code=code)


def _failures(parts: list[Result]) -> str:
    return "; ".join(f"{called(part)}: {part['message']}" for part in parts)
