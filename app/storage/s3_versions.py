"""Versions of a bucket's objects: what was, and what still takes space.

Source: the Amazon S3 API Reference (ListObjectVersions, DeleteObject) and its "Deleting object versions".
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from app.errors import ObjectNotFound, StorageError, StoragePermissionDenied
from app.storage.base import OldVersions, Remains
from app.storage.pages import MAX_LISTED, Progress
from app.storage.s3_client import S3Client

log = logging.getLogger(__name__)
T = TypeVar("T")
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Version:
    """One version, or the `marker` that a deletion has put on top of the versions. `key`: as in the bucket."""

    key: str
    id: str
    marker: bool
    latest: bool
    size: int
    modified_at: datetime

    @property
    def order(self) -> tuple[datetime, bool, bool]:
        """Stores tell times in seconds: of one second the latest counts, and what can be read before its deletion."""
        return self.modified_at, self.latest, not self.marker


@dataclass(frozen=True, slots=True)
class _Page:
    """`unfinished`: keys that the next page may go on with."""

    entries: list[Version]
    unfinished: set[str]


class Versions:
    """Of one bucket; pages of a thousand are all that is in memory."""

    def __init__(self, s3: S3Client, bucket: str, prefix: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = prefix
        self._known = False
        self._kept: bool | None = None

    async def kept(self) -> bool | None:
        """Whether the bucket keeps versions, or once did; None: we may not know, or not list them. Asked for once."""
        if not self._known:
            try:
                self._kept = await self._asked()
            except StorageError as error:
                if type(error) not in (StorageError, StoragePermissionDenied):
                    raise
                self._kept = None
                log.warning(
                    "Old versions in the bucket %s cannot be seen (%s): if it keeps them, a deletion frees nothing; "
                    "allow s3:GetBucketVersioning and s3:ListBucketVersions",
                    self._bucket,
                    error.message,
                )
            self._known = True
        return self._kept

    async def _asked(self) -> bool:
        what, bucket = "Asking for versioning", self._bucket
        answer = await self._s3.call(what, lambda client: client.get_bucket_versioning(Bucket=bucket))
        if answer.get("Status") not in ("Enabled", "Suspended"):
            return False
        one = {"Bucket": bucket, "Prefix": self._prefix, "MaxKeys": 1}
        await self._s3.call(what, lambda client: client.list_object_versions(**one))
        return True

    async def _pages(self, what: str, prefix: str) -> AsyncGenerator[_Page, None]:
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": _PAGE}
        progress = Progress(what, MAX_LISTED)
        while True:
            arguments = dict(request)
            try:
                page = await self._s3.call(what, lambda client: client.list_object_versions(**arguments))  # noqa: B023
            except StoragePermissionDenied as error:
                raise StoragePermissionDenied(
                    f"{what}: the credentials may not list versions; allow s3:ListBucketVersions"
                ) from error
            entries = [_version(item, marker=False) for item in page.get("Versions", [])]
            entries += [_version(item, marker=True) for item in page.get("DeleteMarkers", [])]
            if not page.get("IsTruncated"):
                yield _Page(entries, set())
                return
            # The reference calls it the first key of the next page; stores give the last one of this page.
            last = max((entry.key for entry in entries), key=str.encode, default="")
            request["KeyMarker"] = page.get("NextKeyMarker")
            progress.page(
                len(entries), request["KeyMarker"] and f"{request['KeyMarker']} {page.get('NextVersionIdMarker')}"
            )
            if page.get("NextVersionIdMarker"):
                request["VersionIdMarker"] = page["NextVersionIdMarker"]
            else:
                request.pop("VersionIdMarker", None)
            yield _Page(entries, {last, request["KeyMarker"]})

    async def by_key(
        self, what: str, prefix: str, fold: Callable[[T | None, Version], T]
    ) -> AsyncGenerator[tuple[str, T], None]:
        """What `fold` makes of all versions of each key below `prefix`, which come in any order."""
        open_: dict[str, T] = {}
        async with aclosing(self._pages(what, prefix)) as pages:
            async for page in pages:
                for entry in page.entries:
                    open_[entry.key] = fold(open_.get(entry.key), entry)
                for key in [key for key in open_ if key not in page.unfinished]:
                    yield key, open_.pop(key)

    async def _of(self, what: str, key: str) -> AsyncGenerator[list[Version], None]:
        """Page by page, each when the next one is here: what was deleted is no place to go on from. A key sorts
        before what begins with it."""
        before: list[Version] = []
        async with aclosing(self._pages(what, key)) as pages:
            async for page in pages:
                yield before
                before = [entry for entry in page.entries if entry.key == key]
                if key not in page.unfinished:
                    break
        yield before

    async def seen_at(self, what: str, key: str, moment: datetime) -> Version:
        """The version that was there at `moment`. Raises ObjectNotFound."""
        best: Version | None = None
        async with aclosing(self._of(what, key)) as pages:
            async for page in pages:
                for entry in page:
                    best = newest(moment, best, entry)
        if best is None or best.marker:
            raise ObjectNotFound(f"{what}: there was no such object at {moment:%Y-%m-%d %H:%M:%S} UTC")
        return best

    async def remove(self, what: str, key: str) -> Remains | None:
        """Remove every version, then the markers; hide what may not be removed. Markers last: nothing that was
        hidden shows again when this is interrupted."""
        remains: Remains | None = None
        marked = hidden = False
        async with aclosing(self._of(what, key)) as pages:
            async for page in pages:
                for entry in page:
                    if entry.marker:
                        marked, hidden = True, hidden or entry.latest
                    else:
                        remains = Remains.of_all([remains, await self._removed(what, entry)])
        if remains is not None:
            if not hidden:
                with suppress(ObjectNotFound):
                    await self._s3.call(what, lambda client: client.delete_object(Bucket=self._bucket, Key=key))
            return remains
        if marked:
            await self._remove_markers(what, key)
        return None

    async def _remove_markers(self, what: str, key: str) -> None:
        async with aclosing(self._of(what, key)) as pages:
            async for page in pages:
                for entry in page:
                    if entry.marker:
                        with suppress(StoragePermissionDenied):  # it takes no space
                            await self._delete(what, entry)

    async def _removed(self, what: str, version: Version) -> Remains | None:
        try:
            await self._delete(what, version)
        except StoragePermissionDenied:
            until = None
            with suppress(StoragePermissionDenied, ObjectNotFound):
                until = await self.locked_until(what, _target(self._bucket, version))
            held = until == datetime.max.replace(tzinfo=UTC)
            return Remains(1, version.size, locked=until is not None, until=None if held else until)
        return None

    async def _delete(self, what: str, version: Version) -> None:
        with suppress(ObjectNotFound):
            target = _target(self._bucket, version)
            await self._s3.call(what, lambda client: client.delete_object(**target))

    async def locked_until(self, what: str, target: dict[str, Any]) -> datetime | None:
        """See StorageDriver.locked_until."""
        found = await self._s3.call(what, lambda client: client.head_object(**target))
        if found.get("ObjectLockLegalHoldStatus") == "ON":
            return datetime.max.replace(tzinfo=UTC)
        until: datetime | None = found.get("ObjectLockRetainUntilDate")
        return until.astimezone(UTC) if until is not None and until > datetime.now(UTC) else None


def newest(moment: datetime, best: Version | None, entry: Version) -> Version | None:
    """Which of the two was there at `moment`; None: neither."""
    if entry.modified_at > moment:
        return best
    return entry if best is None else max(best, entry, key=lambda one: one.order)


def counted(known: OldVersions | None, entry: Version) -> OldVersions:
    """What lies under a key, one more version of it looked at."""
    old = known or OldVersions(entry.key, False, 0, 0, entry.modified_at)
    past = not entry.marker and not entry.latest
    return OldVersions(
        key=entry.key,
        current=old.current or (entry.latest and not entry.marker),
        versions=old.versions + past,
        size=old.size + (entry.size if past else 0),
        changed_at=max(old.changed_at, entry.modified_at),
    )


def _version(item: dict[str, Any], *, marker: bool) -> Version:
    return Version(
        item["Key"], item["VersionId"], marker, item["IsLatest"], item.get("Size", 0), item["LastModified"]
    )


def _target(bucket: str, version: Version) -> dict[str, Any]:
    return {"Bucket": bucket, "Key": version.key, "VersionId": version.id}
