"""A bucket as it was at a moment, from the versions it keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.errors import NoPast, StoragePermissionDenied
from app.storage.base import ObjectInfo, Remains, StorageDriver, is_key, validate_prefix
from app.storage.s3_versions import Version, newest

if TYPE_CHECKING:
    from app.storage.s3 import S3Driver


class S3Past(StorageDriver):
    """See StorageDriver.at."""

    verification = "checksum"

    def __init__(self, driver: S3Driver, moment: datetime) -> None:
        self._driver = driver
        self._moment = moment

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        raise StoragePermissionDenied(f"Writing {key}: nothing can be written into the past")

    async def _which(self, what: str, key: str) -> Version:
        await self._require_past()
        return await self._driver.versions.seen_at(f"{what} {key}", self._driver.whole_key(key), self._moment)

    async def _require_past(self) -> None:
        """Where it is not known whether there are versions, listing them tells."""
        if await self._driver.versions.kept() is False:
            raise NoPast(
                "The bucket keeps no versions: only what is there now can be read; switch versioning on for the next "
                "time"
            )

    async def _target(self, what: str, key: str) -> dict[str, Any]:
        return {**self._driver.target(key), "VersionId": (await self._which(what, key)).id}

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        target = await self._target("Reading", key)
        async with aclosing(self._driver.read(f"Reading {key}", target, offset)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stat(self, key: str) -> ObjectInfo:
        found = await self._which("Looking up", key)
        return ObjectInfo(key, found.size, found.modified_at)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        await self._require_past()
        whole, what = self._driver.whole_prefix(validate_prefix(prefix)), f"Listing {prefix or '/'}"

        def fold(best: Version | None, entry: Version) -> Version | None:
            return newest(self._moment, best, entry)

        async with aclosing(self._driver.versions.by_key(what, whole, fold)) as found:
            async for whole_key, version in found:
                key = self._driver.own_key(whole_key)
                if version is not None and not version.marker and is_key(key):
                    yield ObjectInfo(key, version.size, version.modified_at.astimezone(UTC))

    async def delete(self, key: str) -> Remains | None:
        return await self._driver.delete(key)

    async def locked_until(self, key: str) -> datetime | None:
        what = f"Looking up {key}"
        return await self._driver.versions.locked_until(what, await self._target("Looking up", key))

    async def lock(self, key: str, until: datetime) -> None:
        await self._driver.locks.extend(f"Locking {key}", await self._target("Locking", key), until)

    async def close(self) -> None:
        await self._driver.close()
