"""What lies at a destination, counted."""

from __future__ import annotations

from app.archives.layout import MANIFEST
from app.schemas.destinations import Usage
from app.storage.base import StorageDriver


async def counted(driver: StorageDriver, installation: str) -> Usage:
    """Of one installation, page by page. Raises StorageError."""
    folder = f"{installation}/"
    objects = size = backups = old = old_size = hidden = 0
    async for info in driver.list(folder):
        objects, size = objects + 1, size + info.size
        backups += info.key.endswith(f"/{MANIFEST}")
    async for past in driver.history(folder):
        old, old_size = old + past.versions, old_size + past.size
        hidden += past.versions > 0 and not past.current and past.key.endswith(f"/{MANIFEST}")
    seen = await driver.keeps_history() is not None
    return Usage(
        objects=objects,
        bytes=size,
        backups=backups,
        old_versions=old if seen else None,
        old_version_bytes=old_size if seen else None,
        hidden_backups=hidden if seen else None,
        free_bytes=await driver.free_bytes(),
    )
