"""Putting the parts of a foreign backup in their places: all together, or domain by domain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace

from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.components.base import Component, RestoreContext
from app.components.files import FilesComponent
from app.components.mail import MailComponent
from app.db.models import Destination, Domain, Operation
from app.deployments.base import User
from app.errors import LiberuError
from app.jobs.context import JobContext, Result
from app.jobs.gate import Gate
from app.jobs.import_backups import ImportBackups
from app.jobs.import_plan import ImportItem
from app.jobs.import_streams import ForeignStreams
from app.jobs.restoring import Restoring
from app.jobs.safety import BackupSource
from app.jobs.tries import Tries
from app.services.components import ComponentFactory, DomainSite, begun_on, facts_of, tell_replicas
from app.settings import JobSettings

Results = dict[int, Result]


@dataclass(slots=True)
class ImportParts:
    """Each part is a durable step. `settings.components`: parts that are worked on at a time, and domains that are
    open."""

    components: ComponentFactory
    restoring: Restoring
    operation: Operation
    context: JobContext
    streams: ForeignStreams
    destination: Destination
    store: BackupStore
    settings: JobSettings
    _gate: Gate = field(init=False)
    _places: asyncio.Semaphore = field(init=False)

    async def together(self, items: Sequence[ImportItem]) -> Results:
        """All or nothing: every domain is open until all parts have asked to begin."""
        self._begin(items)
        async with AsyncExitStack() as stack:
            sites = {}
            for domain, _ in by_domain(items):
                sites[domain.id] = await stack.enter_async_context(self.components.opened(domain))
            async with asyncio.TaskGroup() as group:
                tasks = {
                    item.number: group.create_task(self._step(sites[domain.id], domain, item))
                    for domain, mine in by_domain(items)
                    for item in mine
                }
        return {number: task.result() for number, task in tasks.items()}

    async def each(self, items: Sequence[ImportItem]) -> Results:
        """A few domains at a time; one that cannot be reached fails alone."""
        self._begin([])
        domains = asyncio.Semaphore(self.settings.components)

        async def work(domain: Domain, mine: Sequence[ImportItem]) -> Results:
            async with domains:
                try:
                    async with self.components.opened(domain) as site, asyncio.TaskGroup() as group:
                        tasks = {item.number: group.create_task(self._step(site, domain, item)) for item in mine}
                except LiberuError as error:
                    return {item.number: self._fail(item, error) for item in mine}
            return {number: task.result() for number, task in tasks.items()}

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(domain, mine)) for domain, mine in by_domain(items)]
        return {number: result for task in tasks for number, result in task.result().items()}

    async def stored(self, items: Sequence[ImportItem], backups: ImportBackups) -> Results:
        """As backups of ours, one for each domain."""
        done: Results = {}
        for domain, mine in by_domain(items):
            async with self.components.opened(domain) as site:
                owners = {item.number: await _owner(site, item) for item in mine}

                def streamed(item: ImportItem, warnings: list[str], owners: dict[int, User] = owners) -> ByteStream:
                    return self.streams.stream(item, owners[item.number], warnings)

                results = await backups.store_domain(domain, site, mine, streamed)
            done |= {item.number: result for item, result in zip(mine, results, strict=True)}
        return done

    def _begin(self, together: Sequence[ImportItem]) -> None:
        self._gate = Gate([item.number for item in together])
        self._places = asyncio.Semaphore(self.settings.components)

    async def _step(self, site: DomainSite, domain: Domain, item: ImportItem) -> Result:
        async def work() -> Result:
            async with self._places:
                self.context.track(item.number, item.label, "running")
                try:
                    result = await self._restore(site, domain, item)
                except LiberuError as error:
                    self._gate.fail(item.number)
                    return self._fail(item, error)
            self.context.track(item.number, item.label, result["status"])
            return result

        result = await self.context.step(f"import-{item.number}", work)
        if result["status"] == "completed":  # by an earlier attempt, perhaps
            self._gate.arrive(item.number)
        else:
            self._gate.fail(item.number)
        return result

    def _fail(self, item: ImportItem, error: LiberuError) -> Result:
        result = item.failed(error.code, error.message)
        self.context.track(item.number, item.label, result["status"])
        return result

    async def _restore(self, site: DomainSite, domain: Domain, item: ImportItem) -> Result:
        """Again, where its site runs then, when it is cut off."""
        tries = Tries(self.settings, self.context, site, item.number, item.component, item.name)
        while True:
            restoring = self._about(site, domain, item)
            if item.files is not None and item.files.incomplete:
                restoring = replace(restoring, clear_existing=False)  # only what has changed is in it
            begun = False
            try:
                component = await site.build(item.component, item.name, volume=begun_on(restoring.journal))
                tries.began()
                await component.preflight(restoring, item.bytes)
                begun = True
                return await self._restored(component, site, item, restoring, tries)
            except LiberuError as error:
                again = await tries.after(error, begun_on(restoring.journal))
                if again and await self.restoring.anew(self.operation, restoring, error, self.context):
                    continue
                if not begun:
                    raise
                failure, _ = await self.restoring.put_right(self.operation, restoring, error, self.context)
                raise failure from error

    async def _restored(
        self, component: Component, site: DomainSite, item: ImportItem, restoring: RestoreContext, tries: Tries
    ) -> Result:
        warnings: list[str] = []
        owner = component.owner if isinstance(component, FilesComponent | MailComponent) else User(0, 0)
        source = self.streams.stream(item, owner, warnings)
        report = await component.restore(self.context.metered(item.number, source), restoring, item.bytes)
        tell_replicas(report, site.serving(item.component, item.name), "restored")
        facts = facts_of(report)
        facts["warnings"] += [{"code": "left_out", "message": text, "subject": None} for text in warnings]
        facts["warnings"] += tries.warnings()
        return {**item.as_json(), "status": "completed", **facts}

    def _about(self, site: DomainSite, domain: Domain, item: ImportItem) -> RestoreContext:
        async def confirm() -> None:
            await self.context.beat()
            if self._gate.holds(item.number):
                self._places.release()  # others need it to get as far
                try:
                    await self._gate.wait(item.number)
                finally:
                    await self._places.acquire()
                await self.context.beat()

        source = BackupSource(
            before=f"import {self.operation.id}",
            domain=domain,
            site=site,
            destination=self.destination,
            store=self.store,
            kind=item.component,
            name=item.name,
        )
        return self.restoring.context(self.operation, item.number, source, self.context, confirm, foreign=True)


def by_domain(items: Sequence[ImportItem]) -> list[tuple[Domain, list[ImportItem]]]:
    found: dict[int, tuple[Domain, list[ImportItem]]] = {}
    for item in items:
        assert item.domain is not None
        found.setdefault(item.domain.id, (item.domain, []))[1].append(item)
    return list(found.values())


async def _owner(site: DomainSite, item: ImportItem) -> User:
    """Whom the domain's files or mail belong to here; root where it has no place yet, as a restore changes it."""
    if item.kind in ("files", "mail"):
        with suppress(LiberuError):
            component = await site.build(item.component, item.name, reads=True)
            if isinstance(component, FilesComponent | MailComponent):
                return component.owner
    return User(0, 0)
