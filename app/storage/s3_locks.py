"""Object Lock: how long nobody can remove an object's version, neither we nor who has our credentials.

Source: the Amazon S3 API Reference (PutObjectRetention) and "How S3 Object Lock works".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from app.storage.config import S3Configuration
from app.storage.s3_client import S3Client


class Locks:
    def __init__(self, s3: S3Client, configuration: S3Configuration) -> None:
        self._s3 = s3
        self._mode = configuration.object_lock_mode
        self._days = configuration.object_lock_days

    @property
    def wanted(self) -> dict[str, Any]:
        """What a put is begun with; empty: nothing is locked."""
        if not isinstance(self._days, int):
            return {}
        until = datetime.now(UTC) + timedelta(days=self._days)
        return {"ObjectLockMode": self._mode, "ObjectLockRetainUntilDate": until}

    async def ensure(self, what: str, target: dict[str, Any]) -> None:
        """Ceph 16.2 forgets the lock that a multipart upload was begun with."""
        wanted = self.wanted
        if wanted:
            found = await self._s3.call(what, lambda client: client.head_object(**target))
            if "ObjectLockMode" not in found:
                await self._retain(what, target, self._mode, wanted["ObjectLockRetainUntilDate"])

    async def extend(self, what: str, target: dict[str, Any], until: datetime) -> None:
        """To `until`; a longer lock stays, and the mode that one has: it could not be changed."""
        found = await self._s3.call(what, lambda client: client.head_object(**target))
        present = found.get("ObjectLockRetainUntilDate")
        if present is None or present < until:
            await self._retain(what, target, found.get("ObjectLockMode", self._mode), until)

    async def _retain(self, what: str, target: dict[str, Any], mode: str, until: datetime) -> None:
        retention = {"Mode": mode, "RetainUntilDate": until}
        await self._s3.call(what, lambda client: client.put_object_retention(**target, Retention=retention))
