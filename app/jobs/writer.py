"""Writing a backup: components one by one, then the manifest, then the row that describes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.layout import BackupFolder
from app.archives.manifest import ComponentDetails, Details, Manifest, ManifestComponent, StoredObject, Warning_
from app.archives.mirror import MirroredStore
from app.components.base import PLACE, POSITION, Dump
from app.db.base import now
from app.db.models import Backup, BackupComponent, BackupCopy, Domain
from app.db.repositories.backups import BackupRepository
from app.errors import StorageError
from app.jobs.context import JobContext, Result
from app.jobs.outcome import Apply
from app.services.components import DomainSite, Planned, facts_of, tell_replicas


@dataclass(frozen=True, slots=True)
class Target:
    """A destination of a backup. `required`: the backup is not completed without it."""

    id: int
    name: str
    required: bool = True


@dataclass(slots=True)
class BackupRun:
    """What one attempt works with; loaded once, no session is held. `targets`: the primary first."""

    backup: Backup
    domain: Domain
    site: DomainSite
    folder: BackupFolder
    store: MirroredStore
    targets: list[Target]
    recipients: list[str]
    items: list[Planned]


class BackupWriter:
    async def dump(
        self,
        run: BackupRun,
        item: Planned,
        context: JobContext,
        opened: asyncio.Event | None,
        *,
        progress: int | None = None,
    ) -> Result:
        """Store one component. `opened` is set when its snapshot is; `progress`: where its bytes are counted."""
        component = await run.site.build(item.kind, item.name, reads=True)
        dump = await component.dump()
        tell_replicas(dump.report, run.site.serving(item.kind, item.name), "read")
        return await self.store(run, item, dump, context, opened, progress=progress)

    async def store(
        self,
        run: BackupRun,
        item: Planned,
        dump: Dump,
        context: JobContext,
        opened: asyncio.Event | None = None,
        *,
        progress: int | None = None,
    ) -> Result:
        """As `dump`, of one that has begun."""
        started = now()
        key = run.folder.component_key(item.number, item.kind, item.name, encrypted=bool(run.recipients))
        source = context.metered(item.number if progress is None else progress, _announced(dump.stream, opened))
        archive, stored_at = await run.store.put_component(key, source, run.recipients, before_publish=dump.verify)
        return {
            **asdict(item),
            "status": "completed",
            "object": archive.object.model_dump(),
            "stored_at": stored_at,
            "plain_size": archive.plain_size,
            "plain_sha256": archive.plain_sha256,
            "started_at": started.isoformat(),
            "finished_at": now().isoformat(),
            **facts_of(dump.report),
        }

    async def commit(
        self,
        run: BackupRun,
        results: list[Result],
        confirm: Callable[[], Awaitable[None]],
        panel_metadata: Any = None,
    ) -> Result:
        """Publish the manifest wherever every good component is. Returns what was committed, and where.

        Only whoever owns the operation may: `confirm` is called right before and after, and raises. Parts that an
        earlier attempt has stored stay where they are; a manifest of an earlier one, whose record was lost, is
        removed first.
        """
        good = [result for result in results if result["status"] == "completed"]
        for number in run.store.live:
            if any(number not in result["stored_at"] for result in good):
                run.store.drop(number, StorageError("A part of the backup could not be stored there"))
        run.store.require_one()
        status = status_of(results)
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
            panel_metadata=panel_metadata,
            deployment=run.site.facts,
        )
        stored, _ = await run.store.put_details(run.folder.details_key(encrypted=encrypted), details, run.recipients)
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
        await confirm()
        for folder in run.folder.earlier:
            await run.store.withdraw(folder)
        infos = await run.store.commit(run.folder, manifest, confirm)
        size = stored.object.size + sum(int(result["object"]["size"]) for result in good)
        size += next(iter(infos.values())).size
        return {
            "manifest_key": run.folder.manifest_key,
            "size": size,
            "stored_at": list(infos),
            "lost": {str(number): error.message for number, error in run.store.lost.items()},
        }


def ended(run: BackupRun, results: list[Result], committed: Result | None) -> tuple[str, list[str]]:
    """A backup's status, and a sentence for each destination that has no copy."""
    status = status_of(results)
    if committed is None:
        return status, []
    missing = [target for target in run.targets if target.id not in committed["stored_at"]]
    if status == "completed" and any(target.required for target in missing):
        status = "partial"
    return status, [f"There is no copy at {target.name}: {committed['lost'][str(target.id)]}" for target in missing]


def recorded(run: BackupRun, results: list[Result], committed: Result | None, message: str | None) -> Apply:
    """Writes how a backup ended into its row."""

    async def apply(session: AsyncSession) -> None:
        backup = await BackupRepository(session).get(run.backup.id)
        if backup is None:
            return
        backup.status, _ = ended(run, results, committed)
        backup.error_message, backup.completed_at = message, now()
        backup.components = [_row(result) for result in results]
        if committed is not None:
            backup.file_path, backup.file_size = committed["manifest_key"], committed["size"]
            backup.copies = [_copy(run, target, committed) for target in run.targets]

    return apply


def _copy(run: BackupRun, target: Target, committed: Result) -> BackupCopy:
    stored = target.id in committed["stored_at"]
    return BackupCopy(
        destination_id=target.id,
        required=target.required,
        state="stored" if stored else "failed",
        manifest_key=committed["manifest_key"],
        verification=run.store.verification(target.id) if stored else "none",
        error_message=None if stored else committed["lost"][str(target.id)],
    )


async def _announced(source: Any, opened: asyncio.Event | None) -> Any:
    """The first byte of a dump means that its snapshot is open."""
    try:
        async for chunk in source:
            if opened is not None:
                opened.set()
            yield chunk
    finally:
        await source.aclose()


def folder_of(backup: Backup, installation: str, attempt: int) -> BackupFolder:
    return BackupFolder(
        installation, backup.domain_name, backup.domain_uid, backup.created_at, backup.type, backup.uid, attempt
    )


def status_of(results: list[Result]) -> str:
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
        proved=result.get("facts", {}).get("proved"),
        position=result.get("facts", {}).get(POSITION),
        place=result.get("facts", {}).get(PLACE),
    )
