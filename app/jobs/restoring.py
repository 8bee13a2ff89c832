"""What every job needs that restores parts of domains."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from app.components.base import RestoreContext
from app.db.models import Operation
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import NotFound
from app.jobs.context import JobContext
from app.jobs.safety import BackupSource, OpenStore, SafetyBackup
from app.jobs.writer import BackupWriter
from app.security.keys import KeyRing
from app.services.components import ComponentFactory

Journal = dict[str, Any]


class Restoring:
    def __init__(self, database: Database, components: ComponentFactory, keys: KeyRing, opened: OpenStore) -> None:
        self._database = database
        self._components = components
        self._keys = keys
        self._opened = opened
        self._writer = BackupWriter()

    def context(
        self,
        operation: Operation,
        number: int,
        source: BackupSource,
        context: JobContext,
        confirm: Callable[[], Awaitable[None]],
        **about: Any,
    ) -> RestoreContext:
        """For one part, whose journal begins with what `tidy` must know of it: kind, name and `about`."""
        known = {"kind": source.kind, "name": source.name, **about}
        journal: Journal = operation.journal.setdefault(str(number), known)

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
            safety=SafetyBackup(
                self._database, self._writer, self._keys, source, context, journal, record, self._opened
            ),
            allow_without_safety_copy=request["allow_without_safety_copy"],
        )

    async def tidy(self, operation: Operation, domain_of: Callable[[Journal], int]) -> None:
        """Remove what was replaced; it is kept until the operation has ended. Raises NotFound."""
        kept: dict[int, list[Journal]] = {}
        for journal in operation.journal.values():
            if "plan" in journal or journal.get("tidy"):
                kept.setdefault(domain_of(journal), []).append(journal)
        for domain_id, journals in kept.items():
            async with self._database.transaction() as session:
                domain = await DomainRepository(session).get(domain_id)
            if domain is None:
                raise NotFound(f"A domain of operation {operation.uid} is gone: what it replaced is still there")
            async with self._components.opened(domain) as site:
                for journal in journals:
                    component = await site.build(journal["kind"], journal["name"])
                    await component.tidy(journal)
