"""The backup job: one durable step per component, then the commit."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.layout import BackupFolder
from app.archives.manifest import ComponentDetails, Details, Manifest, ManifestComponent, StoredObject, Warning_
from app.archives.store import BackupStore
from app.db.base import now
from app.db.models import Backup, BackupComponent, BackupCopy, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import LiberuError, NotFound
from app.jobs.context import JobContext, Result
from app.jobs.outcome import Outcome
from app.security.keys import KeyRing
from app.services.components import ComponentFactory, Planned, facts_of, planned
from app.services.destinations import DestinationService
from app.settings import JobSettings


@dataclass(slots=True)
class _Run:
    """What one attempt works with; loaded once, no session is held."""

    backup: Backup
    domain: Domain
    folder: BackupFolder
    store: BackupStore
    recipients: list[str]
    items: list[Planned]


class BackupJob:
    def __init__(
        self,
        database: Database,
        components: ComponentFactory,
        destinations: DestinationService,
        keys: KeyRing,
        settings: JobSettings,
    ) -> None:
        self._database = database
        self._components = components
        self._destinations = destinations
        self._keys = keys
        self._settings = settings

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        run = await self._load(operation)
        # A durable step: after a restart the same folder and the same numbers.
        plan = await context.step("plan", lambda: _plan(run, operation.attempt))
        run.folder = _folder_of(run.backup, self._keys.installation, plan["attempt"])
        run.items = [Planned(**item) for item in plan["items"]]
        for item in run.items:
            context.track(item.number, item.name, "pending")
        limit = asyncio.Semaphore(self._settings.components)
        opened = {item.number: asyncio.Event() for item in run.items if item.kind not in ("files", "mail")}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._component(run, item, context, limit, opened)) for item in run.items]
        except asyncio.CancelledError:
            if context.cancelled:
                await asyncio.shield(run.store.abandon(run.folder))
            raise
        results = [task.result() for task in tasks]
        good = [result for result in results if result["status"] == "completed"]
        if not good:
            await run.store.abandon(run.folder)
            return self._outcome(run, results, None)
        committed = await context.step("commit", lambda: self._commit(run, results, operation))
        return self._outcome(run, results, committed)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message, _set_status(operation.backup_id, status, message))

    async def _load(self, operation: Operation) -> _Run:
        async with self._database.transaction() as session:
            backups = BackupRepository(session)
            backup = await backups.get(operation.backup_id or 0)
            domain = await DomainRepository(session).get(operation.domain_id or 0)
            if backup is None or domain is None:
                raise NotFound("The backup or its domain was deleted before the operation began")
            destination = await DestinationRepository(session).get(backup.destination_id)
            if destination is None:
                raise NotFound("The destination was deleted before the operation began")
            await backups.set_running(backup.id, now())
        return _Run(
            backup=backup,
            domain=domain,
            folder=_folder_of(backup, self._keys.installation, operation.attempt),
            store=self._destinations.store(destination),
            recipients=self._destinations.recipients(destination),
            items=planned(domain, backup.type),
        )

    async def _component(
        self,
        run: _Run,
        item: Planned,
        context: JobContext,
        limit: asyncio.Semaphore,
        opened: dict[int, asyncio.Event],
    ) -> Result:
        async def work() -> Result:
            if item.kind == "files":  # database snapshots open before the files are read
                await asyncio.gather(*(event.wait() for event in opened.values()))
            async with limit:
                context.track(item.number, item.name, "running")
                try:
                    result = await self._dump(run, item, context, opened.get(item.number))
                except LiberuError as error:
                    result = {**asdict(item), "status": "failed", "code": error.code, "message": error.message}
                context.track(item.number, item.name, result["status"])
                return result

        try:
            return await context.step(f"component-{item.number}", work)
        finally:  # also when a restart finds the step's result recorded and runs nothing
            if item.number in opened:
                opened[item.number].set()

    async def _dump(self, run: _Run, item: Planned, context: JobContext, opened: asyncio.Event | None) -> Result:
        started = now()
        component = await self._components.build(run.domain, item.kind, item.name)
        dump = await component.dump()
        key = run.folder.component_key(item.number, item.kind, item.name, encrypted=bool(run.recipients))
        source = context.metered(item.number, _announced(dump.stream, opened))
        archive = await run.store.put_component(key, source, run.recipients, before_publish=dump.verify)
        return {
            **asdict(item),
            "status": "completed",
            "object": archive.object.model_dump(),
            "plain_size": archive.plain_size,
            "plain_sha256": archive.plain_sha256,
            "started_at": started.isoformat(),
            "finished_at": now().isoformat(),
            **facts_of(dump.report),
        }

    async def _commit(self, run: _Run, results: list[Result], operation: Operation) -> Result:
        good = [result for result in results if result["status"] == "completed"]
        status = _status(results)
        encrypted = bool(run.recipients)
        details = Details(
            backup_uid=run.backup.uid,
            domain_name=run.domain.domain_name,
            components=[_details(result) for result in good],
            failures=[
                Warning_(code=result["code"], message=result["message"], subject=f"{result['kind']} {result['name']}")
                for result in results
                if result["status"] == "failed"
            ],
            panel_metadata=operation.request.get("panel_metadata"),
        )
        stored = await run.store.put_details(run.folder.details_key(encrypted=encrypted), details, run.recipients)
        manifest = Manifest(
            installation=run.folder.installation,
            folder=run.folder.prefix,
            backup_uid=run.backup.uid,
            domain_uid=run.domain.uid,
            owner=run.domain.user_id,
            type=run.backup.type,
            status="completed" if status == "completed" else "partial",
            created_at=run.backup.created_at,
            finished_at=now(),
            details=stored.object,
            details_encryption="age" if encrypted else None,
            components=[
                ManifestComponent(
                    number=result["number"],
                    kind=result["kind"],
                    objects=[StoredObject(**result["object"])],
                    encryption="age" if encrypted else None,
                    recipients=run.recipients,
                )
                for result in good
            ],
        )
        info = await run.store.commit(run.folder, manifest)
        size = info.size + stored.object.size + sum(int(result["object"]["size"]) for result in good)
        return {"manifest_key": info.key, "size": size}

    def _outcome(self, run: _Run, results: list[Result], committed: Result | None) -> Outcome:
        status = _status(results)
        failures = [f"{r['kind']} {r['name']}: {r['message']}" for r in results if r["status"] == "failed"]
        lacking = [
            f"{r['kind']} {r['name']}: {lack['subject'] or ''} {lack['message']}".strip()
            for r in results
            for lack in r.get("incomplete", [])
        ]
        message = "; ".join([*failures, *lacking[:20]]) or None

        async def apply(session: AsyncSession) -> None:
            backup = await BackupRepository(session).get(run.backup.id)
            if backup is None:
                return
            backup.status, backup.error_message, backup.completed_at = status, message, now()
            backup.components = [_row(result) for result in results]
            if committed is not None:
                backup.file_path, backup.file_size = committed["manifest_key"], committed["size"]
                backup.copies = [
                    BackupCopy(
                        destination_id=backup.destination_id,
                        state="stored",
                        manifest_key=committed["manifest_key"],
                        verification="read_back",
                    )
                ]

        return Outcome(status, {"backup_id": run.backup.id}, message, apply)


async def _announced(source: Any, opened: asyncio.Event | None) -> Any:
    """The first byte of a dump means that its snapshot is open."""
    try:
        async for chunk in source:
            if opened is not None:
                opened.set()
            yield chunk
    finally:
        await source.aclose()


async def _plan(run: _Run, attempt: int) -> Result:
    return {"attempt": attempt, "items": [asdict(item) for item in run.items]}


def _folder_of(backup: Backup, installation: str, attempt: int) -> BackupFolder:
    return BackupFolder(
        installation, backup.domain_name, backup.domain_uid, backup.created_at, backup.type, backup.uid, attempt
    )


def _status(results: list[Result]) -> str:
    """Completed means every component, whole; with none good it is failed."""
    good = [result for result in results if result["status"] == "completed"]
    if not good:
        return "failed"
    whole = len(good) == len(results) and not any(result["incomplete"] for result in good)
    return "completed" if whole else "partial"


def _details(result: Result) -> ComponentDetails:
    keys = ("number", "kind", "name", "plain_size", "plain_sha256", "started_at", "finished_at")
    extra = {key: result[key] for key in ("warnings", "incomplete", "facts")}
    return ComponentDetails.model_validate({key: result[key] for key in keys} | extra)


def _row(result: Result) -> BackupComponent:
    details = _details(result) if result["status"] == "completed" else None
    return BackupComponent(
        number=result["number"],
        kind=result["kind"],
        name=result["name"],
        status=result["status"],
        plain_size=result.get("plain_size"),
        stored_size=result["object"]["size"] if details else None,
        started_at=details.started_at if details else None,
        finished_at=details.finished_at if details else None,
        error_code=result.get("code"),
        error_message=result.get("message"),
        warnings=result.get("warnings", []),
        incomplete=result.get("incomplete", []),
    )


def _set_status(backup_id: int | None, status: str, message: str | None) -> Any:
    async def apply(session: AsyncSession) -> None:
        backup = await BackupRepository(session).get(backup_id or 0)
        if backup is not None and backup.status in ("pending", "running"):
            backup.status, backup.error_message, backup.completed_at = status, message, now()

    return apply
