"""Objects of a bucket.

Source: the Amazon S3 API Reference (PutObject, multipart uploads, ListObjectsV2).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from app.errors import ObjectNotFound, SizeMismatch, StorageError
from app.storage.base import (
    ObjectInfo,
    OldVersions,
    Options,
    Remains,
    StorageDriver,
    claimed_size,
    is_key,
    validate_key,
    validate_prefix,
)
from app.storage.config import S3Configuration
from app.storage.pages import MAX_LISTED, Progress
from app.storage.s3_client import S3Client
from app.storage.s3_locks import Locks
from app.storage.s3_part import Part, in_parts
from app.storage.s3_past import S3Past
from app.storage.s3_versions import Versions, counted
from app.storage.settled import settled
from app.storage.window import Window, in_order

MIB = 1 << 20
MAX_PARTS = 10_000
_PART = 8 * MIB
_EQUAL_PART = 64 * MIB  # 10,000 of them are 625 GiB
_GROWS_EVERY = 2_000  # parts: 16, 32, 64, 128, 256 GB, together 496 GB
#: Bytes of parts in flight for one upload: enough for a line of 100 ms, little beside the rest of the process.
_WINDOW = 16 * MIB
_LONG_LINE = 0.02
_LONG_WINDOW = 64 * MIB
_Request = Callable[..., Awaitable[Any]]


class S3Driver(StorageDriver):
    """A part that a broken line lost is sent again, from memory; nothing is visible before an upload is completed.

    `versions`: of the whole bucket, by whole keys."""

    verification = "checksum"

    def __init__(self, configuration: S3Configuration, options: Options) -> None:
        self._configuration = configuration
        self._s3 = S3Client(configuration, options)
        self._budget = options.budget
        self.versions = Versions(self._s3, configuration.bucket, configuration.prefix)
        self.locks = Locks(self._s3, configuration)

    def whole_prefix(self, prefix: str) -> str:
        return self._configuration.prefix + prefix

    def whole_key(self, key: str) -> str:
        return self.whole_prefix(validate_key(key))

    def own_key(self, whole: str) -> str:
        return whole[len(self._configuration.prefix) :]

    def target(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._configuration.bucket, "Key": self.whole_key(key)}

    def _attributes(self) -> dict[str, Any]:
        settings = self._configuration
        wanted: dict[str, Any] = {
            "StorageClass": settings.storage_class,
            "ServerSideEncryption": settings.server_side_encryption,
            "SSEKMSKeyId": settings.kms_key_id,
            "Tagging": urlencode(settings.tags, quote_via=quote) or None,
        }
        wanted |= self.locks.wanted
        return {name: value for name, value in wanted.items() if value is not None}

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        self.whole_key(key)
        what = f"Writing {key}"
        grows_every = _GROWS_EVERY if size is None and not self._configuration.equal_parts else None
        async with aclosing(in_parts(stream, self._part_size(size), grows_every=grows_every)) as parts:
            first, second = await anext(parts, Part([])), await anext(parts, None)
            if second is None:
                written = first.size
                _compare(what, written, size)
                tag = await self._put_whole(key, first)
            else:
                written, tag = await self._put_parts(key, [first, second], parts, size)
        try:
            info = await self.stat(key)
            if info.size != written:
                raise SizeMismatch(f"{what}: the store holds {info.size} bytes, {written} were sent")
            await self.locks.ensure(f"Locking {key}", self.target(key))
        except BaseException:
            await asyncio.shield(self._withdraw(key, tag))
            raise
        return info

    async def _withdraw(self, key: str, tag: str) -> None:
        """Take back what is visible already, unless it has been replaced since; as far as the store lets us."""
        target = self.target(key)
        with suppress(Exception):
            async with asyncio.timeout(15):
                found = await self._s3.call("Cleaning up", lambda client: client.head_object(**target))
                if found["ETag"] == tag:
                    await self._s3.call("Cleaning up", lambda client: client.delete_object(**target))

    def _part_size(self, size: int | None) -> int:
        if size is not None:
            return max(_PART, -(-size // (MAX_PARTS * MIB)) * MIB)
        return _EQUAL_PART if self._configuration.equal_parts else _PART

    async def _put_whole(self, key: str, content: Part) -> str:
        """Returns the store's tag of it."""
        arguments = {**self.target(key), **self._attributes()}
        answer = await settled(
            self._sent(f"Writing {key}", lambda client: client.put_object, content, arguments),
            lambda answer: self._withdraw(key, answer["ETag"]),
        )
        return str(answer["ETag"])

    async def _put_parts(
        self, key: str, ready: list[Part], parts: AsyncGenerator[Part, None], size: int | None
    ) -> tuple[int, str]:
        what, target = f"Writing {key}", self.target(key)
        begun = await self._s3.call(
            what, lambda client: client.create_multipart_upload(**target, **self._attributes())
        )
        upload = {**target, "UploadId": begun["UploadId"]}
        try:
            tags, written = await self._send(what, upload, ready, parts)
            _compare(what, written, size)
            tag = await settled(
                self._complete(what, target, upload, tags, written), lambda tag: self._withdraw(key, tag)
            )
        except BaseException:
            await asyncio.shield(self._abort(upload))
            raise
        return written, tag

    async def _send(
        self, what: str, upload: dict[str, Any], ready: list[Part], parts: AsyncGenerator[Part, None]
    ) -> tuple[dict[int, str], int]:
        """Send every part; return the store's tag of each, and the bytes."""
        tags: dict[int, str] = {}

        async def send(number: int, content: Part) -> None:
            arguments = {**upload, "PartNumber": number}
            answer = await self._sent(what, lambda client: client.upload_part, content, arguments)
            tags[number] = answer["ETag"]

        number = written = 0
        limit = _LONG_WINDOW if self._s3.round_trip > _LONG_LINE else _WINDOW
        async with Window(limit, self._budget) as window:
            while True:
                part = ready.pop(0) if ready else await anext(parts, None)
                if part is None:
                    break
                number += 1
                if number > MAX_PARTS:
                    raise StorageError(f"{what}: the object is larger than {MAX_PARTS} parts can hold")
                await window.add(send(number, part), part.size)
                written += part.size
        return tags, written

    async def _sent(
        self,
        what: str,
        request: Callable[[Any], Callable[..., Awaitable[Any]]],
        part: Part,
        arguments: dict[str, Any],
    ) -> Any:
        md5 = await asyncio.to_thread(part.md5)
        try:
            return await self._s3.call(
                what, lambda client: request(client)(**arguments, ContentMD5=md5, Body=part if part.size else b"")
            )
        finally:
            part.release()

    async def _complete(
        self, what: str, target: dict[str, Any], upload: dict[str, Any], tags: dict[int, str], written: int
    ) -> str:
        """Returns the store's tag of the object."""
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(tags.items())]
        try:
            answer = await self._s3.call(
                what, lambda client: client.complete_multipart_upload(**upload, MultipartUpload={"Parts": listed})
            )
            return str(answer["ETag"])
        except StorageError:
            # The answer may have been lost after the store had completed the upload.
            found = None
            with suppress(ObjectNotFound):  # the store's first reason is the one to tell
                found = await self._s3.call(what, lambda client: client.head_object(**target))
            if found is None or (found["ContentLength"], _parts_of(found)) != (written, len(listed)):
                raise
            return str(found["ETag"])

    async def _abort(self, upload: dict[str, Any]) -> None:
        """Best effort: what stays is an upload that the sweep aborts."""
        with suppress(Exception):
            async with asyncio.timeout(15):
                await self._s3.call("Cleaning up", lambda client: client.abort_multipart_upload(**upload))

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.read(f"Reading {key}", self.target(key), offset)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def read(self, what: str, target: dict[str, Any], offset: int) -> AsyncGenerator[bytes, None]:
        """As `get`, of an object or of a version of it."""
        found = await self._s3.call(what, lambda client: client.head_object(**target))
        size, wanted = claimed_size(target["Key"], found["ContentLength"]), {**target, "IfMatch": found["ETag"]}
        if self._s3.round_trip > _LONG_LINE:
            chunks = self._pieces(what, wanted, offset, size)
        else:
            chunks = self._s3.read(what, wanted, offset, size)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def _pieces(self, what: str, wanted: dict[str, Any], offset: int, size: int) -> AsyncGenerator[bytes, None]:
        """Several ranges at once: one request's window does not fill a long line."""

        async def read(start: int, length: int) -> list[bytes]:
            async with aclosing(self._s3.read(what, wanted, start, start + length)) as chunks:
                return [chunk async for chunk in chunks]

        async with aclosing(in_order(read, offset, size, _PART, _LONG_WINDOW // _PART, self._budget)) as pieces:
            async for piece in pieces:
                while piece:
                    yield piece.pop(0)

    async def stat(self, key: str) -> ObjectInfo:
        target = self.target(key)
        found = await self._s3.call(f"Looking up {key}", lambda client: client.head_object(**target))
        return ObjectInfo(key, claimed_size(key, found["ContentLength"]), found["LastModified"])

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        whole, what = self.whole_prefix(validate_prefix(prefix)), f"Listing {prefix or '/'}"
        request: dict[str, Any] = {"Bucket": self._configuration.bucket, "Prefix": whole, "MaxKeys": 1000}
        progress = Progress(what, MAX_LISTED)
        while True:
            arguments = dict(request)
            page = await self._s3.call(what, lambda client: client.list_objects_v2(**arguments))  # noqa: B023
            for item in page.get("Contents", []):
                key = self.own_key(item["Key"])
                if is_key(key):
                    yield ObjectInfo(key, claimed_size(key, item["Size"]), item["LastModified"])
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page.get("NextContinuationToken")
            progress.page(len(page.get("Contents", [])), request["ContinuationToken"])

    async def delete(self, key: str) -> Remains | None:
        what, target = f"Deleting {key}", self.target(key)
        if await self.versions.kept():
            return await self.versions.remove(what, self.whole_key(key))
        with suppress(ObjectNotFound):
            await self._s3.call(what, lambda client: client.delete_object(**target))
        return None

    def at(self, moment: datetime) -> StorageDriver:
        return S3Past(self, moment)

    async def keeps_history(self) -> bool | None:
        return await self.versions.kept()

    async def history(self, prefix: str = "") -> AsyncGenerator[OldVersions, None]:
        if not await self.versions.kept():
            return
        whole, what = self.whole_prefix(validate_prefix(prefix)), f"Listing the versions of {prefix or '/'}"
        async with aclosing(self.versions.by_key(what, whole, counted)) as found:
            async for whole_key, old in found:
                key = self.own_key(whole_key)
                if is_key(key) and (old.versions or not old.current):
                    yield replace(old, key=key)

    async def locked_until(self, key: str) -> datetime | None:
        if await self.versions.kept() is False:
            return None
        return await self.versions.locked_until(f"Looking up {key}", self.target(key))

    async def lock(self, key: str, until: datetime) -> None:
        await self.locks.extend(f"Locking {key}", self.target(key), until)

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        """Abort uploads that were begun before `older_than`: their parts cost space and are listed nowhere else."""
        bucket, what = self._configuration.bucket, "Removing leftovers"
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": self.whole_prefix(prefix)}
        count, progress = 0, Progress(what, MAX_LISTED)
        while True:
            arguments = dict(request)
            page = await self._s3.call(what, lambda client: client.list_multipart_uploads(**arguments))  # noqa: B023
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < older_than:
                    await self._abort({"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]})
                    count += 1
            if not page.get("IsTruncated"):
                return count
            request |= {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
            progress.page(len(page.get("Uploads", [])), f"{request['KeyMarker']} {request['UploadIdMarker']}")

    async def close(self) -> None:
        await self._s3.close()


def _parts_of(found: dict[str, Any]) -> int | None:
    """How many parts an object was made of, as S3's tags of multipart uploads end with it."""
    number = found["ETag"].strip('"').rpartition("-")[2]
    return int(number) if number.isdigit() else None


def _compare(what: str, written: int, size: int | None) -> None:
    if size is not None and written != size:
        raise SizeMismatch(f"{what}: the source gave {written} bytes instead of {size}")
