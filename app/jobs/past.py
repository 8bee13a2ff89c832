"""Backups of the catalogue that a scan of the past has found."""

from __future__ import annotations

from datetime import datetime

from app.archives.store import BackupStore
from app.db.models import Backup, Destination, Operation
from app.db.repositories.backups import BackupRepository
from app.db.session import Database
from app.errors import ArchiveDamaged, ArchiveError, ObjectNotFound


def moment_of(operation: Operation) -> datetime | None:
    """The time a scan was asked for; None: now."""
    at = operation.request.get("at")
    return None if at is None else datetime.fromisoformat(at)


async def reopen(database: Database, destination: Destination, store: BackupStore, key: str, at: datetime) -> bool:
    """Let a copy that is recorded be read as of `at` from now on: what lies there today may be gone, or not what was
    written. What a verification has marked as damaged is good again, until the next one. False: its manifest was not
    good then either."""
    try:
        manifest = await store.read_manifest(key)
    except (ArchiveError, ObjectNotFound):
        return False
    numbers = {component.number for component in manifest.components}
    async with database.transaction() as session:
        backup = await BackupRepository(session).by_uid(manifest.backup_uid)
        if backup is None:
            return False
        found = [
            one for one in backup.stored_copies if (one.destination_id, one.manifest_key) == (destination.id, key)
        ]
        for copy in found:
            copy.as_of, copy.error_message = at, None
            if copy.state == "damaged":
                copy.state, copy.verification = "stored", "listed"
        if found:
            _undamaged(backup, numbers, manifest.status)
        return bool(found)


def _undamaged(backup: Backup, numbers: set[int], status: str) -> None:
    lost = [part for part in backup.components if part.error_code == ArchiveDamaged.code and part.number in numbers]
    for part in lost:
        part.status, part.error_code, part.error_message = "completed", None, None
    if lost:
        backup.status, backup.error_message = status, None
