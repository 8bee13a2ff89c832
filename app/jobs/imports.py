"""The import job: read the archive whole, find out what is in it, then put each part in its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.store import BackupStore
from app.archives.streams import ByteStream, Sink, produce
from app.components.base import RestoreContext
from app.components.files import FilesComponent
from app.components.mail import MailComponent
from app.db.models import Destination, Domain, DomainMailbox, Operation
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.deployments.base import User
from app.errors import InvalidRequest, LiberuError, NotFound
from app.external.inventory import Inventory
from app.external.limits import Budget, Limits
from app.external.parser import ExternalBackupParser, as_json
from app.external.staged import Staged
from app.external.tree import TreeTar, plain_sql
from app.jobs.context import JobContext, Result
from app.jobs.gate import Gate
from app.jobs.import_backups import ImportBackups, abandoned
from app.jobs.import_plan import ImportItem, plan, targets
from app.jobs.outcome import Apply, Outcome
from app.jobs.restoring import Restoring
from app.jobs.runner import Job
from app.jobs.safety import BackupSource, safety_ended
from app.schemas.domains import DomainIn, StandaloneDeployment
from app.security.keys import KeyRing
from app.security.tokens import Principal
from app.services.components import ComponentFactory, DomainSite, facts_of
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.imports import ImportSources, remove_staging
from app.services.unit import Unit
from app.settings import ImportSettings, JobSettings

_ARCHIVE = 0
_OPERATOR = Principal(0, None, frozenset({"*"}))


@dataclass(frozen=True, slots=True)
class _Run:
    operation: Operation
    parser: ExternalBackupParser
    sites: dict[int, DomainSite]
    destination: Destination
    store: BackupStore
    gate: Gate
    places: asyncio.Semaphore


class ImportJob(Job):
    """Parts are restored as those of our own backups are: staged, compared, swapped; a restart goes on with them."""

    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        destinations: DestinationService,
        keys: KeyRing,
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
        )
        self._parallel = jobs.components
        self._restoring = Restoring(database, components, keys)

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        async with self._parsed(operation, context) as parser:
            request = operation.request
            inventory = await parser.inspect(request["format"], request["domain_name"])
            domains = await self._domains(list(targets(inventory, request).values()), request["user_id"])
            made = await self._created(inventory, operation, context)
            domains = made | domains
            items = plan(inventory, request, domains)
            found = as_json(inventory)
            context.track(_ARCHIVE, "archive", "completed")
            if request["dry_run"]:
                return Outcome(
                    "completed", {"dry_run": True, "inventory": found, "items": [_planned(i) for i in items]}
                )
            for item in items:
                context.track(item.number, f"{item.kind} {item.source}", "failed" if item.problem else "pending")
            if request["as_backup"]:
                results = await self._stored(operation, parser, items, context)
            else:
                results = await self._all(operation, parser, items, context)
            facts = {"inventory": found, "must_reset": found["must_reset"], "created_domains": sorted(made)}
            if request["password_hashes"]:
                facts["password_hashes"] = await asyncio.to_thread(parser.password_hashes, inventory)
            return _outcome(items, results, facts)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        copies, backups = safety_ended(operation.journal), abandoned(operation, status, message)

        async def apply(session: AsyncSession) -> None:
            await copies(session)
            await backups(session)

        return Outcome(status, {}, message, apply)

    async def tidy(self, operation: Operation) -> None:
        """Staging, the upload, and what was replaced are kept until the operation has ended."""
        await asyncio.to_thread(remove_staging, self._sources.staging / operation.uid)
        if not operation.request["dry_run"]:
            self._sources.forget(operation.request["source"], operation.request["folder_of"])
        await self._restoring.tidy(operation, lambda journal: int(journal["domain_id"]))

    @asynccontextmanager
    async def _parsed(self, operation: Operation, context: JobContext) -> AsyncGenerator[ExternalBackupParser, None]:
        """The archive, read to its last byte, once."""
        parser = ExternalBackupParser(self._sources.staging / operation.uid, self._limits)
        try:
            context.track(_ARCHIVE, "archive", "running")
            if not parser.ready:
                source = self._sources.open(operation.request["source"], operation.request["folder_of"])
                await parser.stage(context.metered(_ARCHIVE, source))
            yield parser
        finally:
            parser.close()

    async def _domains(self, names: list[str], user_id: int | None) -> dict[str, Domain]:
        """Those that exist and belong to the user: another tenant's are not there."""
        async with self._database.transaction() as session:
            repository = DomainRepository(session)
            found = [await repository.by_name(name) for name in dict.fromkeys(names)]
        return {item.domain_name: item for item in found if item is not None and user_id in (None, item.user_id)}

    async def _created(self, inventory: Inventory, operation: Operation, context: JobContext) -> dict[str, Domain]:
        """Domains that nobody has here, made where the request says; for a dry run only in thought."""
        request, names = operation.request, targets(inventory, operation.request)
        if request["create"] is None:
            return {}
        parts = [found for found in inventory.domains if found.document_root or found.databases or found.mailboxes]
        wanted = dict.fromkeys(names[found.name] for found in parts)
        if request["dry_run"]:
            taken = await self._domains(list(wanted), None)
            return {name: _imagined(_body(name, request)) for name in wanted if name not in taken}

        async def work() -> Result:
            made = []
            for name in wanted:
                async with self._database.transaction() as session:
                    if await DomainRepository(session).by_name(name) is None:
                        await self._new_domains.create(Unit(session), _OPERATOR, _body(name, request))
                        made.append(name)
            return {"names": made}

        made = await self._domains((await context.step("create-domains", work))["names"], request["user_id"])
        for domain in made.values():
            async with self._components.opened(domain) as site:
                await site.make_folders()
        return made

    async def _all(
        self, operation: Operation, parser: ExternalBackupParser, items: list[ImportItem], context: JobContext
    ) -> list[Result]:
        """The result of each item, in their order."""
        together = not operation.request["continue_on_error"]
        unfit = [item for item in items if item.problem is not None]
        if not items:
            raise InvalidRequest("The archive holds nothing of what was asked for", field="components")
        if together and unfit:
            return _in_order(items, {item.number: _not_done(item) for item in items})
        good = [item for item in items if item.problem is None]
        async with AsyncExitStack() as stack:
            run = await self._opened(stack, operation, parser, good, together=together)
            async with asyncio.TaskGroup() as group:
                tasks = {item.number: group.create_task(self._step(run, item, context)) for item in good}
        done = {number: task.result() for number, task in tasks.items()}
        return _in_order(items, done)

    async def _stored(
        self, operation: Operation, parser: ExternalBackupParser, items: list[ImportItem], context: JobContext
    ) -> list[Result]:
        """As backups of ours, one for each domain."""
        good = [item for item in items if item.problem is None]
        done: dict[int, Result] = {}
        async with AsyncExitStack() as stack:
            run = await self._opened(stack, operation, parser, good, together=False)
            recipients = self._destinations.recipients(run.destination)
            made = ImportBackups(
                self._database, self._keys, run.destination, run.store, recipients, operation, context
            )
            for number, site in run.sites.items():
                mine = [item for item in good if item.domain is not None and item.domain.id == number]
                owners = {item.number: await _owner(site, item) for item in mine}

                def streamed(item: ImportItem, warnings: list[str], owners: dict[int, User] = owners) -> ByteStream:
                    return self._stream(run, item, owners[item.number], warnings)

                domain = mine[0].domain
                assert domain is not None
                results = await made.store_domain(domain, site, mine, streamed)
                done |= {item.number: result for item, result in zip(mine, results, strict=True)}
        return _in_order(items, done)

    async def _opened(
        self,
        stack: AsyncExitStack,
        operation: Operation,
        parser: ExternalBackupParser,
        items: Sequence[ImportItem],
        *,
        together: bool,
    ) -> _Run:
        async with self._database.transaction() as session:
            destination = await DestinationRepository(session).get(operation.destination_id or 0)
        if destination is None:
            raise NotFound("The destination for what the import keeps was deleted before it began")
        sites = {}
        for item in items:
            assert item.domain is not None
            if item.domain.id not in sites:
                sites[item.domain.id] = await stack.enter_async_context(self._components.opened(item.domain))
        store = await stack.enter_async_context(self._destinations.opened(destination))
        gate = Gate([item.number for item in items] if together else [])
        return _Run(operation, parser, sites, destination, store, gate, asyncio.Semaphore(self._parallel))

    async def _step(self, run: _Run, item: ImportItem, context: JobContext) -> Result:
        async def work() -> Result:
            async with run.places:
                context.track(item.number, f"{item.kind} {item.source}", "running")
                try:
                    result = await self._restore(run, item, context)
                except LiberuError as error:
                    run.gate.fail(item.number)
                    result = _failed(item, error.code, error.message)
            context.track(item.number, f"{item.kind} {item.source}", result["status"])
            return result

        result = await context.step(f"import-{item.number}", work)
        if result["status"] == "completed":  # by an earlier attempt, perhaps
            run.gate.arrive(item.number)
        else:
            run.gate.fail(item.number)
        return result

    async def _restore(self, run: _Run, item: ImportItem, context: JobContext) -> Result:
        assert item.domain is not None
        component = await run.sites[item.domain.id].build(item.component, item.name)
        restoring = self._context(run, item, context)
        await component.preflight(restoring, item.bytes)
        warnings: list[str] = []
        owner = component.owner if isinstance(component, FilesComponent | MailComponent) else User(0, 0)
        source = self._stream(run, item, owner, warnings)
        report = await component.restore(context.metered(item.number, source), restoring, item.bytes)
        facts = facts_of(report)
        facts["warnings"] += [{"code": "left_out", "message": text, "subject": None} for text in warnings]
        return {**item.as_json(), "status": "completed", **facts}

    def _stream(self, run: _Run, item: ImportItem, owner: User, warnings: list[str]) -> ByteStream:
        """The part as our own backups have it."""
        if (foreign := item.files) is not None:
            return self._tree(run, lambda staged: TreeTar(staged, owner, warnings).files(foreign))
        if item.mail:
            boxes = _renamed(item)
            return self._tree(run, lambda staged: TreeTar(staged, owner, warnings).mail(boxes))
        database = item.database
        assert database is not None

        def dump(staged: Staged) -> Iterator[bytes]:
            member = staged.get(database.source)
            if member is None:
                raise NotFound(f"{database.source} is not in the archive")
            yield from plain_sql(staged, member, Budget(self._limits))

        return self._tree(run, dump)

    @staticmethod
    def _tree(run: _Run, make: Callable[[Staged], Iterator[bytes]]) -> ByteStream:
        """In a thread, with an index of its own."""
        folder = run.parser.staged.folder

        def work(sink: Sink) -> None:
            staged = Staged(folder)
            try:
                for chunk in make(staged):
                    sink.write(chunk)
            finally:
                staged.close()

        return produce(work, "import part")

    def _context(self, run: _Run, item: ImportItem, context: JobContext) -> RestoreContext:
        operation, domain = run.operation, item.domain
        assert domain is not None

        async def confirm() -> None:
            await context.beat()
            if run.gate.holds(item.number):
                run.places.release()  # others need it to get as far
                try:
                    await run.gate.wait(item.number)
                finally:
                    await run.places.acquire()
                await context.beat()

        source = BackupSource(
            before=f"import {operation.id}",
            domain=domain,
            site=run.sites[domain.id],
            destination=run.destination,
            store=run.store,
            kind=item.component,
            name=item.name,
        )
        return self._restoring.context(operation, item.number, source, context, confirm, domain_id=domain.id)


async def _owner(site: DomainSite, item: ImportItem) -> User:
    """Whom the domain's files or mail belong to here; root where it has no place yet, as a restore changes it."""
    if item.kind in ("files", "mail"):
        with suppress(LiberuError):
            component = await site.build(item.component, item.name)
            if isinstance(component, FilesComponent | MailComponent):
                return component.owner
    return User(0, 0)


def _renamed(item: ImportItem) -> list[Any]:
    """Mailboxes under the name of the domain that they are imported into."""
    return [replace(box, address=f"{box.address.rpartition('@')[0]}@{item.target}") for box in item.mail]


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


def _planned(item: ImportItem) -> dict[str, Any]:
    """What a dry run says of it."""
    if item.problem is not None:
        return {**item.as_json(), "status": "impossible", "code": item.problem[0], "message": item.problem[1]}
    new = item.domain is not None and item.domain.id is None
    return {**item.as_json(), "status": "ready", "creates_domain": new, "overwrites": item.kind != "mail" and not new}


def _failed(item: ImportItem, code: str, message: str) -> Result:
    status = "not_imported" if code == "import_stopped" else "failed"
    return {**item.as_json(), "status": status, "code": code, "message": message}


def _in_order(items: list[ImportItem], done: dict[int, Result]) -> list[Result]:
    return [_failed(item, *item.problem) if item.problem else done[item.number] for item in items]


def _not_done(item: ImportItem) -> Result:
    return _failed(item, "import_stopped", "Nothing was changed: another part cannot be imported")


def _outcome(items: list[ImportItem], results: list[Result], facts: dict[str, Any]) -> Outcome:
    good = [result for result in results if result["status"] == "completed"]
    bad = [result for result in results if result["status"] == "failed"]
    lacking = any(result.get("incomplete") for result in good)
    status = "completed" if len(good) == len(results) and not lacking else "partial" if good else "failed"
    message = "; ".join(f"{r['kind']} {r['source']}: {r['message']}" for r in bad[:20]) or None
    code = bad[0]["code"] if bad else None
    placed = zip(items, results, strict=True)
    mail = [item for item, done in placed if item.mail and done["status"] == "completed" and "backup_id" not in done]
    return Outcome(status, {**facts, "dry_run": False, "items": results}, message, _mailboxes(mail), code)


def _mailboxes(items: list[ImportItem]) -> Apply:
    """Mailboxes that were imported belong to their domain from now on: its backups name them."""

    async def apply(session: AsyncSession) -> None:
        for item in items:
            domain = await DomainRepository(session).get(item.domain.id if item.domain else 0)
            if domain is None:
                continue
            known = {box.email_address for box in domain.mailboxes}
            for box in _renamed(item):
                if box.address not in known:
                    domain.mailboxes.append(DomainMailbox(email_address=box.address, quota=box.quota))

    return apply
