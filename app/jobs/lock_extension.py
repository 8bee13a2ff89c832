"""Object Lock follows what is kept: the locks of kept backups are extended before they end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from app.archives.store import BackupStore
from app.db.base import now
from app.db.models import Backup, BackupCopy, Destination
from app.errors import LiberuError
from app.services.destinations import DestinationService
from app.services.locks import lock_extension

_NAMED = 1000


async def extend_locks(
    destinations: DestinationService,
    destination: Destination,
    kept: Iterable[Backup],
    beat: Callable[[], Awaitable[None]],
) -> dict[str, Any]:
    """Of the copies at one destination; nothing where it locks nothing. One that fails does not keep the rest from
    it, and is named. Can be repeated."""
    wanted = lock_extension(destination, now())
    if wanted is None:
        return {}
    extended, failed = 0, list[dict[str, Any]]()
    async with destinations.opened(destination) as present:
        for backup in kept:
            for copy in backup.stored_copies:
                if copy.destination_id != destination.id:
                    continue
                await beat()
                try:
                    async with _seen(destinations, destination, copy, present) as store:
                        extended += await store.extend_locks(copy.manifest_key, *wanted)
                except LiberuError as error:
                    failed.append({"id": backup.id, "code": error.code, "message": error.message})
    return {
        "locks_extended": extended,
        "locks_failed_count": len(failed),
        "locks_failed": failed[:_NAMED],
    }


def failure_of(locks: dict[str, Any]) -> str | None:
    """A sentence on locks that could not be extended."""
    if not locks.get("locks_failed_count"):
        return None
    first = locks["locks_failed"][0]
    return (
        f"The locks of {locks['locks_failed_count']} backups could not be extended, the first, of backup "
        f"{first['id']}, because: {first['message']}"
    )


@asynccontextmanager
async def _seen(
    destinations: DestinationService, destination: Destination, copy: BackupCopy, present: BackupStore
) -> AsyncGenerator[BackupStore, None]:
    if copy.as_of is None:
        yield present
        return
    async with destinations.opened(destination, copy.as_of) as store:
        yield store
