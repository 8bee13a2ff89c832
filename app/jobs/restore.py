"""The restore job: authenticate, preflight, then one component after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from app.archives.copies import Copy, CopySource
from app.archives.manifest import ComponentDetails, Details
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import Component, Report, RestoreContext
from app.db.models import Backup, Destination, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import LiberuError, NotFound
from app.jobs.context import JobContext, Result
from app.jobs.copies import marked, used
from app.jobs.outcome import Outcome
from app.jobs.restoring import Restoring
from app.jobs.runner import Job
from app.jobs.safety import BackupSource, safety_ended
from app.security.keys import KeyRing
from app.services.components import ComponentFactory, DomainSite, facts_of
from app.services.destinations import DestinationService


@dataclass(slots=True)
class _Run:
    backup: Backup
    domain: Domain
    site: DomainSite
    copies: CopySource
    destination: Destination
    store: BackupStore


class RestoreJob(Job):
    def __init__(
        self, database: Database, components: ComponentFactory, destinations: DestinationService, keys: KeyRing
    ) -> None:
        self._database = database
        self._components = components
        self._destinations = destinations
        self._keys = keys
        self._restoring = Restoring(database, components, keys)

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        backup, domain, places, identities = await self._load(operation)
        async with self._components.opened(domain) as site:
            return await self._from_any(backup, domain, site, identities, places, operation, context)

    async def _from_any(
        self,
        backup: Backup,
        domain: Domain,
        site: DomainSite,
        identities: list[str],
        places: list[tuple[Destination, str]],
        operation: Operation,
        context: JobContext,
    ) -> Outcome:
        """From the first copy that can be read; a part that turns out to be damaged there, from another one."""
        copies = [Copy(found.id, found.name, key, partial(self._destinations.opened, found)) for found, key in places]
        uids = {"backup_uid": backup.uid, "domain_uid": backup.domain_uid}
        async with CopySource(copies, identities, **uids) as source:
            copy, details = await source.open(operation.request["components"])
            [destination] = [found for found, _ in places if found.id == copy.id]
            run = _Run(backup, domain, site, source, destination, source.store(copy))
            outcome = await self._run(run, details, operation, context)
            outcome.apply = marked(backup.id, source.problems)
            return outcome

    async def _run(self, run: _Run, details: Details, operation: Operation, context: JobContext) -> Outcome:
        wanted = [c for c in details.components if c.number in operation.request["components"]]
        for part in wanted:
            context.track(part.number, part.name, "pending")
        prepared = await self._preflight(run, wanted, operation, context)
        if operation.request["dry_run"]:
            return Outcome("completed", {"dry_run": True, "components": prepared})
        results = []
        for part in wanted:
            results.append(await self._step(run, part, operation, context))
        return _outcome(results, details)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message, safety_ended(operation.journal))

    async def tidy(self, operation: Operation) -> None:
        """What was replaced is kept until the operation has ended."""
        await self._restoring.tidy(operation, lambda journal: operation.domain_id or 0)

    async def _load(self, operation: Operation) -> tuple[Backup, Domain, list[tuple[Destination, str]], list[str]]:
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
        places = [(found, copy.manifest_key) for found, copy in zip(destinations, copies, strict=True)]
        return backup, domain, places, [*given, self._keys.identity]

    async def _preflight(
        self, run: _Run, wanted: list[ComponentDetails], operation: Operation, context: JobContext
    ) -> list[Result]:
        """Every target ready, before the first is touched. Raises what is wrong."""
        prepared = []
        for part in wanted:
            component = await self._component(run, part)
            mode = await component.preflight(self._context(run, operation, part, context), part.plain_size)
            prepared.append({"number": part.number, "kind": part.kind, "name": part.name, "mode": mode})
        return prepared

    async def _component(self, run: _Run, part: ComponentDetails) -> Component:
        return await run.site.build(part.kind, part.name)

    async def _step(self, run: _Run, part: ComponentDetails, operation: Operation, context: JobContext) -> Result:
        async def restore(plain: ByteStream) -> Report:
            component = await self._component(run, part)
            return await component.restore(
                context.metered(part.number, plain), self._context(run, operation, part, context), part.plain_size
            )

        def untouched() -> bool:
            return not operation.journal.get(str(part.number), {}).get("unsettled")

        async def work() -> Result:
            context.track(part.number, part.name, "running")
            base: Result = {"number": part.number, "kind": part.kind, "name": part.name}
            try:
                report, copy = await run.copies.component(part, restore, untouched)
            except LiberuError as error:
                context.track(part.number, part.name, "failed")
                return {**base, "status": "failed", "code": error.code, "message": error.message}
            context.track(part.number, part.name, "completed")
            known = used(copy, run.copies.problems_of(part.number))
            facts = facts_of(report)
            warnings = [*known.pop("warnings"), *facts["warnings"]]
            return {**base, "status": "completed", **known, **facts, "warnings": warnings}

        return await context.step(f"restore-{part.number}", work)

    def _context(
        self, run: _Run, operation: Operation, part: ComponentDetails, context: JobContext
    ) -> RestoreContext:
        source = BackupSource(
            before=f"the restore of backup {run.backup.id}",
            domain=run.domain,
            site=run.site,
            destination=run.destination,
            store=run.store,
            kind=part.kind,
            name=part.name,
        )
        return self._restoring.context(operation, part.number, source, context, context.beat)


def _outcome(results: list[Result], details: Details) -> Outcome:
    good = [result for result in results if result["status"] == "completed"]
    lacking = any(result["incomplete"] for result in good)
    status = "completed" if len(good) == len(results) and not lacking else "partial" if good else "failed"
    failures = [f"{r['kind']} {r['name']}: {r['message']}" for r in results if r["status"] == "failed"]
    code = next((r["code"] for r in results if r["status"] == "failed"), None)
    result = {"components": results, "panel_metadata": details.panel_metadata}
    return Outcome(status, result, "; ".join(failures) or None, code=code)
