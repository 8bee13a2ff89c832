"""The restore job: authenticate, preflight, then one component after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.archives.manifest import ComponentDetails, Details, Manifest
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import Component, RestoreContext
from app.db.models import Backup, BackupCopy, Destination, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import (
    ArchiveError,
    ConsentRequired,
    LiberuError,
    ManifestInvalid,
    NoSpace,
    NotFound,
    StorageError,
)
from app.jobs.context import JobContext, Result
from app.jobs.outcome import Outcome
from app.jobs.restoring import Restoring
from app.jobs.runner import Job
from app.jobs.safety import BackupSource
from app.security.keys import KeyRing
from app.services.components import ComponentFactory, DomainSite, facts_of
from app.services.destinations import DestinationService

log = logging.getLogger(__name__)
Place = tuple[Destination, BackupCopy]


@dataclass(slots=True)
class _Run:
    """`store`: what is read, maybe as it was at a time; `present`: the same destination as it is, to keep things."""

    backup: Backup
    domain: Domain
    site: DomainSite
    identities: list[str]
    done: set[int]
    destination: Destination
    store: BackupStore
    present: BackupStore
    manifest_key: str


class RestoreJob(Job):
    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        destinations: DestinationService,
        keys: KeyRing,
        restoring: Restoring,
    ) -> None:
        self._database = database
        self._components = components
        self._destinations = destinations
        self._keys = keys
        self._restoring = restoring

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        """What an earlier attempt had begun to change is settled before anything else."""
        settled = await self._restoring.settle(operation, context, resumes=True)
        done = {number: part for number, part in settled.items() if part["status"] == "completed"}
        if done and set(operation.request["components"]) <= set(done):
            outcome = _resumed(done)
        else:
            backup, domain, places, identities = await self._load(operation)
            await self._restoring.settle_domain(domain, context)
            async with self._components.opened(domain) as site:
                run_at = partial(_Run, backup, domain, site, identities, set(done))
                outcome = await self._from_any(run_at, places, operation, context)
        outcome.apply = self._restoring.remains(operation)
        return outcome

    async def _from_any(
        self,
        run_at: Callable[[Destination, BackupStore, BackupStore, str], _Run],
        places: list[Place],
        operation: Operation,
        context: JobContext,
    ) -> Outcome:
        """From the first copy that can be read."""
        for number, (destination, copy) in enumerate(places, 1):
            async with (
                self._destinations.opened(destination) as present,
                self._destinations.opened(destination, copy.as_of) as store,
            ):
                run = run_at(destination, store, present, copy.manifest_key)
                try:
                    manifest, details = await self._opened(run, operation)
                except (StorageError, ArchiveError) as error:
                    if number == len(places):
                        raise
                    log.warning("The copy at %s cannot be used, trying the next: %s", destination.name, error.message)
                else:
                    return await self._run(run, manifest, details, operation, context)
        raise NotFound("The backup has no copy that is stored")

    async def _opened(self, run: _Run, operation: Operation) -> tuple[Manifest, Details]:
        """Manifest and details of a copy whose objects are all there."""
        manifest = await run.store.read_manifest(run.manifest_key)
        if (manifest.backup_uid, manifest.domain_uid) != (run.backup.uid, run.backup.domain_uid):
            raise ManifestInvalid(f"{run.manifest_key} belongs to another backup or domain")
        for entry in manifest.components:
            for stored in entry.objects if entry.number in operation.request["components"] else ():
                if not await run.store.present(stored):
                    raise ManifestInvalid(f"{stored.key} is missing or has another size; nothing was changed")
        return manifest, await run.store.read_details(manifest, run.identities)

    async def _run(
        self, run: _Run, manifest: Manifest, details: Details, operation: Operation, context: JobContext
    ) -> Outcome:
        wanted = [c for c in details.components if c.number in operation.request["components"]]
        for part in wanted:
            context.track(part.number, part.name, "pending")
        prepared = await self._preflight(run, wanted, operation, context)
        if operation.request["dry_run"]:
            for part, told in zip(wanted, prepared, strict=True):
                told["facts"] = await self._rehearsed(run, manifest, part, operation, context)
            return Outcome("completed", {"dry_run": True, "components": prepared})
        results = []
        for part in wanted:
            results.append(await self._step(run, manifest, part, operation, context))
        return _outcome(results, details)

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
        self, run: _Run, wanted: list[ComponentDetails], operation: Operation, context: JobContext
    ) -> list[Result]:
        """Every target ready, before the first is touched. Raises what is wrong."""
        prepared = []
        for part in wanted:
            told = {"number": part.number, "kind": part.kind, "name": part.name}
            if part.number not in run.done:
                component = await self._component(run, part)
                told["mode"] = await self._fit(component, run, self._context(run, operation, part, context), part)
            prepared.append(told)
        return prepared

    async def _fit(self, component: Component, run: _Run, restoring: RestoreContext, part: ComponentDetails) -> str:
        """What earlier restores have replaced is kept only as long as there is room."""
        try:
            return await component.preflight(restoring, part.plain_size)
        except (NoSpace, ConsentRequired):
            if not await self._restoring.make_room(run.domain):
                raise
            return await component.preflight(restoring, part.plain_size)

    async def _rehearsed(
        self, run: _Run, manifest: Manifest, part: ComponentDetails, operation: Operation, context: JobContext
    ) -> dict[str, Any]:
        """What a restore would change, as far as the archive and what is live tell it."""
        component = await self._component(run, part)
        plain = self._plain(run, manifest, part)
        context.track(part.number, part.name, "running")
        report = await component.rehearse(
            context.metered(part.number, plain), self._context(run, operation, part, context)
        )
        context.track(part.number, part.name, "completed")
        return report.facts

    @staticmethod
    def _plain(run: _Run, manifest: Manifest, part: ComponentDetails) -> ByteStream:
        entry = _entry(manifest, part)
        identities = run.identities if entry.encryption else None
        return run.store.open_component(entry.objects[0], part.plain_size, part.plain_sha256, identities)

    async def _component(self, run: _Run, part: ComponentDetails) -> Component:
        return await run.site.build(part.kind, part.name)

    async def _step(
        self, run: _Run, manifest: Manifest, part: ComponentDetails, operation: Operation, context: JobContext
    ) -> Result:
        async def work() -> Result:
            context.track(part.number, part.name, "running")
            base: Result = {"number": part.number, "kind": part.kind, "name": part.name}
            try:
                component = await self._component(run, part)
                plain = self._plain(run, manifest, part)
                report = await component.restore(
                    context.metered(part.number, plain), self._context(run, operation, part, context), part.plain_size
                )
            except LiberuError as error:
                context.track(part.number, part.name, "failed")
                return {**base, "status": "failed", "code": error.code, "message": error.message}
            context.track(part.number, part.name, "completed")
            return {**base, "status": "completed", **facts_of(report)}

        return await context.step(f"restore-{part.number}", work)

    def _context(
        self, run: _Run, operation: Operation, part: ComponentDetails, context: JobContext
    ) -> RestoreContext:
        source = BackupSource(
            before=f"the restore of backup {run.backup.id}",
            domain=run.domain,
            site=run.site,
            destination=run.destination,
            store=run.present,
            kind=part.kind,
            name=part.name,
        )
        excluded = part.facts.get("exclusions")
        return self._restoring.context(
            operation, part.number, source, context, context.beat, exclusions=excluded, taken_at=part.started_at
        )


def _entry(manifest: Manifest, part: ComponentDetails) -> Any:
    for entry in manifest.components:
        if entry.number == part.number:
            return entry
    raise ManifestInvalid(f"The manifest has no component {part.number}")


def _resumed(done: dict[int, Result]) -> Outcome:
    """All that was asked for had been restored when the last attempt ended; the destination is not asked."""
    return Outcome("completed", {"components": [done[number] for number in sorted(done)], "panel_metadata": None})


def _outcome(results: list[Result], details: Details) -> Outcome:
    good = [result for result in results if result["status"] == "completed"]
    lacking = any(result["incomplete"] for result in good)
    status = "completed" if len(good) == len(results) and not lacking else "partial" if good else "failed"
    failures = [f"{r['kind']} {r['name']}: {r['message']}" for r in results if r["status"] == "failed"]
    code = next((r["code"] for r in results if r["status"] == "failed"), None)
    result = {"components": results, "panel_metadata": details.panel_metadata}
    return Outcome(status, result, "; ".join(failures) or None, code=code)
