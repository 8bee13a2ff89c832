"""Rebuilding the catalogue of a destination from the manifests that lie there, reading nothing else but what an
earlier verification has called damaged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from app.archives.layout import MANIFEST, parsed_component, parsed_folder
from app.archives.manifest import Manifest
from app.archives.store import BackupStore
from app.db.models import Backup, BackupComponent, BackupCopy, Destination, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.session import Database
from app.errors import ArchiveError, Forbidden, ObjectNotFound, SizeMismatch
from app.jobs.context import JobContext
from app.jobs.judging import judge, lost_by_verification, recorded
from app.jobs.outcome import Outcome
from app.jobs.past import moment_of, reopen
from app.jobs.runner import Job
from app.schemas.backups import LABELS
from app.services.destinations import DestinationService

_NAMED = 1000


@dataclass(slots=True)
class _Found:
    """What a scan has met; the first thousand of each list are named. `missing`: what is known and was not met."""

    missing: set[str]
    met: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)
    again: list[int] = field(default_factory=list)


class ScanJob(Job):
    """Can be repeated: a backup that is known is passed over, but a copy that was found damaged is read again."""

    def __init__(self, database: Database, destinations: DestinationService) -> None:
        self._database = database
        self._destinations = destinations

    async def run(self, operation: Operation, context: JobContext) -> Outcome:
        async with self._database.transaction() as session:
            [destination] = await DestinationRepository(session).named([operation.destination_id or 0])
            known = await BackupRepository(session).manifest_keys(destination.id)
            counted_on = await BackupRepository(session).counted_on(destination.id)
            damaged = await BackupRepository(session).damaged_at(destination.id)
        at = moment_of(operation)
        context.track(1, "manifests", "running")
        found = _Found(set(known))
        async with self._destinations.opened(destination, at) as store:
            async for key, size in store.manifests():
                found.met += 1
                found.missing.discard(key)
                if at is not None and key in counted_on:
                    found.counts["reopened"] += await reopen(self._database, destination, store, key, at)
                if key in known:
                    found.counts["known"] += 1
                else:
                    await self._adopt(destination, store, key, size, found, at)
                if at is None and key in damaged:
                    found.again.append(damaged[key])
                context.note(1, done=found.met)
            if at is None:
                await store.confirm()  # what was not listed is missing only where the destination still is
            if found.again:
                context.track(2, "damaged copies", "running")
            for backup_id in found.again:
                await self._read_again(destination, store, backup_id, found, context, at)
        for number, entry in context.progress.items():
            context.track(int(number), entry["name"], "completed")
        as_of_now = {key for key in known if counted_on.get(key) is None}
        missing = sorted(as_of_now & found.missing) if at is None else []
        result: dict[str, Any] = {
            **{name: found.counts[name] for name in ("known", "added", "refused", "whole_again")},
            "missing": missing[:_NAMED], "missing_count": len(missing), "refusals": found.refused,
        }  # fmt: skip
        if at is not None:
            result |= {"at": at.isoformat(), "reopened": found.counts["reopened"]}
        return Outcome("completed", result)

    async def abandon(self, operation: Operation, status: str, message: str | None) -> Outcome:
        return Outcome(status, {}, message)

    async def _adopt(
        self,
        destination: Destination,
        store: BackupStore,
        key: str,
        size: int,
        found: _Found,
        at: datetime | None = None,
    ) -> None:
        try:
            manifest = await store.read_manifest(key)
            if destination.user_id not in (None, manifest.owner):
                raise Forbidden(
                    "It is another owner's backup; at a tenant's destination only the tenant's are listed"
                )
            backup = _recorded(manifest, destination, key, size)
            backup.copies[0].as_of = at
        except ObjectNotFound:  # deleted meanwhile
            return
        except (ArchiveError, Forbidden, SizeMismatch) as error:
            found.counts["refused"] += 1
            if len(found.refused) < _NAMED:
                found.refused.append({"key": key, "code": error.code, "message": error.message})
            return
        async with self._database.transaction() as session:
            repository = BackupRepository(session)
            present = await repository.by_uid(backup.uid)
            if present is None:
                domain = await DomainRepository(session).by_uid(backup.domain_uid)
                if domain is not None:
                    backup.domain_id, backup.domain_name = domain.id, domain.domain_name
                repository.add(backup)
                found.counts["added"] += 1
            elif (present.status in ("completed", "partial") or lost_by_verification(present)) and (
                destination.id not in {copy.destination_id for copy in present.stored_copies}
            ):
                present.copies = [copy for copy in present.copies if copy.destination_id != destination.id]
                present.copies.append(_copy(destination, key))
                present.copies[-1].as_of = at
                found.counts["added"] += 1
                if lost_by_verification(present):
                    found.again.append(present.id)

    async def _read_again(
        self,
        destination: Destination,
        store: BackupStore,
        backup_id: int,
        found: _Found,
        context: JobContext,
        at: datetime | None,
    ) -> None:
        """A backup whose copy here was found damaged, or that has lost parts elsewhere."""
        async with self._database.transaction() as session:
            backup = await BackupRepository(session).get(backup_id)
        if backup is None:
            return
        for copy in backup.stored_copies:
            if copy.destination_id == destination.id:
                seen = store.at(copy.as_of) if at is None else store
                verdict = await judge(backup, copy, seen, partial(context.metered, 2))
                async with self._database.transaction() as session:
                    await recorded(backup_id, [verdict], set())(session)
                found.counts["whole_again"] += verdict.state == "whole"


def _recorded(manifest: Manifest, destination: Destination, key: str, size: int) -> Backup:
    """The row of a backup that is known by its manifest alone: true names are in its encrypted details, and are read
    by a restore."""
    domain_slug = parsed_folder(key.removesuffix(MANIFEST))
    stored = [o.size for component in manifest.components for o in component.objects]
    return Backup(
        uid=manifest.backup_uid,
        domain_uid=manifest.domain_uid,
        domain_name=domain_slug,
        user_id=manifest.owner,
        destination_id=destination.id,
        type=manifest.type,
        name=f"{domain_slug} {LABELS.get(manifest.type, manifest.type)} {manifest.created_at:%Y-%m-%d %H:%M}",
        description="Found by a scan of its destination",
        file_path=key,
        file_size=size + manifest.details.size + sum(stored),
        status=manifest.status,
        created_at=manifest.created_at,
        started_at=manifest.created_at,
        completed_at=manifest.finished_at,
        components=[
            BackupComponent(
                number=component.number,
                kind=component.kind,
                name=parsed_component(component.objects[0].key, component.kind),
                status="completed",
                stored_size=sum(o.size for o in component.objects),
                warnings=[],
                incomplete=[],
            )
            for component in manifest.components
        ],
        copies=[_copy(destination, key)],
    )


def _copy(destination: Destination, key: str) -> BackupCopy:
    return BackupCopy(destination_id=destination.id, state="stored", manifest_key=key, verification="listed")
