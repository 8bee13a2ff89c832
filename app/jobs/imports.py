"""The import job: read the archive whole, find out what is in it, then put each part in its place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Domain, DomainMailbox, Operation
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import DomainOverlap, InvalidRequest, NotFound
from app.external.inventory import Inventory, Problem
from app.external.limits import Limits
from app.external.parser import as_json
from app.external.reader import ArchiveReader
from app.jobs.context import JobContext, Result
from app.jobs.import_backups import ImportBackups, abandoned
from app.jobs.import_parts import ImportParts, by_domain
from app.jobs.import_plan import ImportItem, plan, targets
from app.jobs.import_streams import ForeignStreams, renamed
from app.jobs.outcome import Apply, Outcome
from app.jobs.restoring import Restoring
from app.jobs.runner import Job
from app.schemas.domains import DomainIn, StandaloneDeployment
from app.security.keys import KeyRing
from app.security.tokens import Principal
from app.services.components import ComponentFactory
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.imports import ImportSources, remove_staging
from app.services.locks import lock_days
from app.services.unit import Unit
from app.settings import ImportSettings, JobSettings

_ARCHIVE = 0
_MAX_TOLD = 20
_NOT_DONE = ("import_stopped", "Nothing was changed: another part cannot be imported")
_OPERATOR = Principal(0, None, frozenset({"*"}))


class ImportJob(Job):
    """Parts are restored as those of our own backups are: staged, compared, swapped; a restart goes on with them."""

    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        destinations: DestinationService,
        keys: KeyRing,
        restoring: Restoring,
        domains: DomainService,
        sources: ImportSources,
        settings: ImportSettings,
        jobs: JobSettings,
    ) -> None:
        self._database = database
        self._components = components
        self._destinations = destinations
        self._keys = keys
        self._new_domains = domains
        self._sources = sources
        self._limits = Limits(
            settings.max_bytes,
            settings.max_members,
            settings.max_ratio,
            settings.max_depth,
            settings.max_hours * 3600,
            settings.reserve_bytes,
            settings.cpu_seconds,
        )
        self._settings = jobs
        self._restoring = restoring

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        """What an earlier attempt had begun to change is settled before anything else."""
        await self._restoring.settle(operation, context, resumes=True)
        outcome = await self._import(operation, context)
        mailboxes, remains = outcome.apply, self._restoring.remains(operation)

        async def apply(session: AsyncSession) -> None:
            if mailboxes is not None:
                await mailboxes(session)
            await remains(session)

        outcome.apply = apply
        return outcome

    async def _import(self, operation: Operation, context: JobContext) -> Outcome:
        request = operation.request
        reader = await self._staged(operation, context)
        context.note(_ARCHIVE, phase="looking into it")
        hashes = request["password_hashes"] and not request["dry_run"]
        inventory, secrets = await reader.inspect(request["format"], request["domain_name"], hashes=hashes)
        domains = await self._domains(list(targets(inventory, request).values()), request["user_id"])
        for name in sorted(set(request.get("only") or ()) - {found.name for found in inventory.domains}):
            inventory.warnings.append(f"{name} was asked for, and is no domain of the archive")
        made, refused = await self._created(inventory, operation, context)
        domains = made | domains
        items = plan(inventory, request, domains, refused)
        found = as_json(inventory)
        context.track(_ARCHIVE, "archive", "completed")
        if request["dry_run"]:
            return Outcome(
                "completed", {"dry_run": True, "inventory": found, "items": [_planned(i, request) for i in items]}
            )
        for item in items:
            context.track(item.number, item.label, "failed" if item.problem else "pending")
        if not items:
            raise InvalidRequest("The archive holds nothing of what was asked for", field="components")
        for domain, _ in by_domain([item for item in items if item.domain is not None]):
            if not request["as_backup"]:
                await self._restoring.settle_domain(domain, context)
        results = await self._results(operation, items, context)
        facts = {"inventory": found, "must_reset": found["must_reset"], "created_domains": sorted(made)}
        if request["password_hashes"]:
            facts["password_hashes"] = secrets
        return _outcome(items, results, facts)

    async def _results(self, operation: Operation, items: list[ImportItem], context: JobContext) -> list[Result]:
        """Of each item, in their order."""
        request = operation.request
        together = not request["continue_on_error"] and not request["as_backup"]
        if together and any(item.problem is not None for item in items):
            return [item.failed(*(item.problem or _NOT_DONE)) for item in items]
        good = [item for item in items if item.problem is None]
        async with self._database.transaction() as session:
            destination = await DestinationRepository(session).get(operation.destination_id or 0)
        if destination is None:
            raise NotFound("The destination for what the import keeps was deleted before it began")
        locked = lock_days(destination) if request["as_backup"] else None
        async with self._destinations.opened(destination, lock_days=locked) as store:
            streams = ForeignStreams(self._folder(operation), self._limits)
            parts = ImportParts(
                self._components,
                self._restoring,
                operation,
                context,
                streams,
                destination,
                store,
                self._settings,
            )
            if request["as_backup"]:
                recipients = self._destinations.recipients(destination)
                made = ImportBackups(self._database, self._keys, destination, store, recipients, operation, context)
                done = await parts.stored(good, made)
            else:
                done = await (parts.together(good) if together else parts.each(good))
        return [item.failed(*item.problem) if item.problem else done[item.number] for item in items]

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        """What it had begun to change is finished or undone first."""
        ended = await self._restoring.abandoned(operation, status, message)
        copies, backups = ended.apply, abandoned(operation, status, message)

        async def apply(session: AsyncSession) -> None:
            if copies is not None:
                await copies(session)
            await backups(session)

        ended.apply = apply
        return ended

    async def tidy(self, operation: Operation) -> None:
        """Staging, the upload, and what was replaced are kept until the operation has ended."""
        await asyncio.to_thread(remove_staging, self._folder(operation))
        if not operation.request["dry_run"]:
            self._sources.forget(operation.request["source"], operation.request["folder_of"])
        await self._restoring.tidy(operation)

    def _folder(self, operation: Operation) -> Path:
        """Where its archive is staged."""
        return self._sources.staging / operation.uid

    async def _staged(self, operation: Operation, context: JobContext) -> ArchiveReader:
        """The archive, read to its last byte, once."""
        reader = ArchiveReader(self._folder(operation), self._limits)
        context.track(_ARCHIVE, "archive", "running")
        context.note(_ARCHIVE, phase="reading")
        if not await reader.ready():
            source = self._sources.open(operation.request["source"], operation.request["folder_of"])
            await reader.stage(context.metered(_ARCHIVE, source))
        return reader

    async def _domains(self, names: list[str], user_id: int | None) -> dict[str, Domain]:
        """Those that exist and belong to the user: another tenant's are not there."""
        async with self._database.transaction() as session:
            repository = DomainRepository(session)
            found = [await repository.by_name(name) for name in dict.fromkeys(names)]
        return {item.domain_name: item for item in found if item is not None and user_id in (None, item.user_id)}

    async def _created(
        self, inventory: Inventory, operation: Operation, context: JobContext
    ) -> tuple[dict[str, Domain], dict[str, Problem]]:
        """Domains that nobody has here, made where the request says; for a dry run only in thought. And those that
        would take another domain's place."""
        request, names = operation.request, targets(inventory, operation.request)
        if request["create"] is None:
            return {}, {}
        reader, refused = Principal(0, request["user_id"], frozenset()), dict[str, list[str]]()
        parts = [found for found in inventory.domains if found.name in names and found.holds_anything]
        wanted = dict.fromkeys(names[found.name] for found in parts)
        if request["dry_run"]:
            taken, thought = await self._domains(list(wanted), None), dict[str, Domain]()
            for name in wanted:
                if name in taken:
                    continue
                body = _body(name, request)
                try:
                    async with self._database.transaction() as session:
                        await self._new_domains.check_new(Unit(session), body, reader)
                    thought[name] = _imagined(body)
                except DomainOverlap as error:
                    refused[name] = [error.code, error.message]
            return thought, _problems(refused)

        async def work() -> Result:
            made = []
            for name in wanted:
                try:
                    async with self._database.transaction() as session:
                        if await DomainRepository(session).by_name(name) is None:
                            body = _body(name, request)
                            await self._new_domains.create(Unit(session), _OPERATOR, body, reader=reader)
                            made.append(name)
                except DomainOverlap as error:
                    refused[name] = [error.code, error.message]
            return {"names": made, "refused": refused}

        done = await context.step("create-domains", work)
        made = await self._domains(done["names"], request["user_id"])
        for domain in made.values():
            async with self._components.opened(domain) as site:
                await site.make_folders()
        return made, _problems(done.get("refused", {}))


def _problems(refused: dict[str, list[str]]) -> dict[str, Problem]:
    return {name: (code, message) for name, (code, message) in refused.items()}


def _body(name: str, request: dict[str, Any]) -> DomainIn:
    """Raises InvalidRequest for a name that no domain may have here."""
    wanted = {key: value and value.replace("{domain}", name) for key, value in request["create"].items()}
    try:
        return DomainIn(
            domain_name=name, user_id=request["user_id"], deployment=StandaloneDeployment(type="standalone"), **wanted
        )
    except ValueError as error:
        raise InvalidRequest(f"{name} cannot be made a domain here: {error}", field="create") from error


def _imagined(body: DomainIn) -> Domain:
    paths = {"document_root": body.document_root, "mail_path": body.mail_path}
    return Domain(domain_name=body.domain_name, databases=[], mailboxes=[], **paths)


def _planned(item: ImportItem, request: dict[str, Any]) -> dict[str, Any]:
    """What a dry run says of it. `needs`: consent that the request lacks, for what the site may lose."""
    if item.problem is not None:
        return {**item.as_json(), "status": "impossible", "code": item.problem[0], "message": item.problem[1]}
    new = item.domain is not None and item.domain.id is None
    adds = item.kind == "mail" or (item.files is not None and item.files.incomplete)
    facts: dict[str, Any] = {"creates_domain": new, "overwrites": not new and not adds, "adds_only": adds}
    if item.files is not None and not (item.files.files or adds or new) and request["clear_existing"]:
        text = f"There is no file in it: what {item.target} has would go. It is done only with allow_empty"
        facts["needs"] = {} if request.get("allow_empty") else {"allow_empty": text}
    return {**item.as_json(), "status": "ready", **facts}


def _outcome(items: list[ImportItem], results: list[Result], facts: dict[str, Any]) -> Outcome:
    good = [result for result in results if result["status"] == "completed"]
    bad = [result for result in results if result["status"] == "failed"]
    lacking = any(result.get("incomplete") for result in good)
    status = "completed" if len(good) == len(results) and not lacking else "partial" if good else "failed"
    message = _told(bad)
    code = bad[0]["code"] if bad else None
    placed = zip(items, results, strict=True)
    mail = [item for item, done in placed if item.mail and done["status"] == "completed" and "backup_id" not in done]
    return Outcome(status, {**facts, "dry_run": False, "items": results}, message, _mailboxes(mail), code)


def _told(failed: list[Result]) -> str | None:
    """Why parts failed: of each domain once, and what several of its parts share once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in failed:
        reason = result["message"].removeprefix(f"{result['target']}: ")
        part = result["kind"] + (f" {result['name']}" if result["kind"] == "database" else "")
        reasons.setdefault((result["target"], reason), []).append(part)
    told = [f"{', '.join(parts)} of {target}: {reason}" for (target, reason), parts in reasons.items()]
    more = [f"and {len(told) - _MAX_TOLD} more"] if len(told) > _MAX_TOLD else []
    return "; ".join([*told[:_MAX_TOLD], *more]) or None


def _mailboxes(items: list[ImportItem]) -> Apply:
    """Mailboxes that were imported belong to their domain from now on: its backups name them."""

    async def apply(session: AsyncSession) -> None:
        for item in items:
            domain = await DomainRepository(session).get(item.domain.id if item.domain else 0)
            if domain is None:
                continue
            known = {box.email_address for box in domain.mailboxes}
            for box in renamed(item):
                if box.address not in known:
                    domain.mailboxes.append(DomainMailbox(email_address=box.address, quota=box.quota))

    return apply
