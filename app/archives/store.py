"""BackupStore: which keys a backup has at a destination, and in which order they are written and deleted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime

from app.archives.compression import Compressor
from app.archives.layout import MANIFEST, BackupFolder, is_marker
from app.archives.manifest import MAX_MANIFEST_BYTES, Details, Manifest, StoredObject, seal, unseal
from app.archives.pipeline import Digests, Expected, decode, decode_authenticated, encode
from app.archives.streams import ByteStream, Digest, SourceReader, consume, from_bytes
from app.errors import ArchiveDamaged, ManifestInvalid, ObjectNotFound, SizeMismatch, StorageError
from app.security.signing import Signer
from app.storage.base import ObjectInfo, StorageDriver


def _as_is(stream: ByteStream) -> ByteStream:
    return stream


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """One archive as it was stored and confirmed."""

    object: StoredObject
    plain_size: int
    plain_sha256: str


class BackupStore:
    """One destination's backups. Objects first, manifest last; on deletion the manifest goes first."""

    def __init__(self, driver: StorageDriver, compressor: Compressor, signer: Signer) -> None:
        self._driver = driver
        self._compressor = compressor
        self._signer = signer

    @property
    def verification(self) -> str:
        """How far a stored object is known to be whole; see StorageDriver."""
        return self._driver.verification

    async def put_component(
        self,
        key: str,
        source: ByteStream,
        recipients: Sequence[str],
        before_publish: Callable[[], None] = lambda: None,
    ) -> StoredArchive:
        """Compress, encrypt and store `source`; compare its size, and read it back where that is cheap.

        `before_publish` runs after the source's last byte and may raise: nothing becomes visible then.
        """
        digests = Digests()
        async with aclosing(self.encoded(source, recipients, digests, before_publish)) as archive:
            return await self.put_archive(key, digests, archive)

    async def encoded(
        self, source: ByteStream, recipients: Sequence[str], digests: Digests, before_publish: Callable[[], None]
    ) -> ByteStream:
        """The archive of `source`; see put_component."""
        async with aclosing(encode(source, self._compressor, recipients, digests)) as archive:
            async for chunk in archive:
                yield chunk
        before_publish()

    async def put_archive(self, key: str, digests: Digests, archive: ByteStream) -> StoredArchive:
        """Store what `encoded` yields; see put_component."""
        info = await self._driver.put(key, archive)
        stored = StoredObject(key=key, size=digests.stored.size, sha256=digests.stored.sha256)
        if info.size != stored.size:
            raise SizeMismatch(f"{key}: {info.size} bytes are stored, {stored.size} were sent")
        if self.verification == "read_back":
            await self.verify_object(stored)
        return StoredArchive(stored, digests.plain.size, digests.plain.sha256)

    def open_component(
        self, stored: StoredObject, plain_size: int, plain_sha256: str, identities: Sequence[str] | None
    ) -> ByteStream:
        """The plain bytes of an archive; see pipeline.decode for what is raised, and when."""
        expected = Expected(plain_size, plain_sha256, stored.size, stored.sha256)
        return decode(self._driver.get(stored.key), identities, expected)

    async def verify_object(self, stored: StoredObject, through: Callable[[ByteStream], ByteStream] = _as_is) -> None:
        """Read an object, `through` what counts its bytes, and compare size and hash. Raises ArchiveDamaged,
        ObjectNotFound."""

        def work(reader: SourceReader) -> Digest:
            digest = Digest()
            for chunk in reader.chunks():
                digest.update(chunk)
            return digest

        digest = await consume(through(self._driver.get(stored.key)), work, "verify")
        if (digest.size, digest.sha256) != (stored.size, stored.sha256):
            raise ArchiveDamaged(
                f"{stored.key} is damaged: it holds {digest.size} bytes where {stored.size} were stored, "
                "or its hash differs"
            )

    async def confirm(self) -> None:
        """Raises DestinationNotPrepared when this is not, or not any more, the place that was prepared."""
        await self._driver.confirm()

    async def free_bytes(self) -> int | None:
        """Space left at the destination; None where it cannot tell."""
        return await self._driver.free_bytes()

    async def present(self, stored: StoredObject) -> bool:
        """True when an object of the recorded size is there."""
        try:
            return (await self._driver.stat(stored.key)).size == stored.size
        except ObjectNotFound:
            return False

    async def put_details(self, key: str, details: Details, recipients: Sequence[str]) -> StoredArchive:
        return await self.put_component(key, from_bytes(details.model_dump_json().encode()), recipients)

    async def read_details(self, manifest: Manifest, identities: Sequence[str]) -> Details:
        """Raises ArchiveDamaged, DecryptionFailed. The hash in the signed manifest authenticates it."""
        raw = b"".join([chunk async for chunk in self._driver.get(manifest.details.key)])
        if (len(raw), hashlib.sha256(raw).hexdigest()) != (manifest.details.size, manifest.details.sha256):
            raise ArchiveDamaged(f"{manifest.details.key} is damaged")
        secret = identities if manifest.details_encryption else None
        plain = b"".join([chunk async for chunk in decode_authenticated(from_bytes(raw), secret)])
        details = Details.model_validate_json(plain)
        if details.backup_uid != manifest.backup_uid:
            raise ManifestInvalid(f"{manifest.details.key} belongs to another backup")
        return details

    async def commit(self, folder: BackupFolder, manifest: Manifest) -> ObjectInfo:
        """Publish the manifest: from here on the backup exists. Checks first that every object is there.

        The manifest is read back. One that may not be whole is deleted, and the error raised: a failed commit leaves
        no backup.
        """
        for stored in (*(o for c in manifest.components for o in c.objects), manifest.details):
            if not await self.present(stored):
                raise ArchiveDamaged(f"{stored.key} is gone or has another size; the backup is not committed")
        data = seal(manifest, self._signer)
        await self.confirm()
        try:
            info = await self._driver.put(folder.manifest_key, from_bytes(data), len(data))
            if await self.read_manifest(folder.manifest_key) != manifest:
                raise ManifestInvalid(f"{folder.manifest_key} is not what was written; the backup is not committed")
        except BaseException:
            await asyncio.shield(self._undo(folder))
            raise
        return info

    async def withdraw(self, folder: BackupFolder) -> None:
        """Remove an attempt's manifest; its objects stay. Idempotent."""
        await self._driver.delete(folder.manifest_key)

    async def _undo(self, folder: BackupFolder) -> None:
        with suppress(StorageError):  # the sweep finds what stays
            await self.withdraw(folder)

    async def manifests(self, markers: set[str] | None = None) -> AsyncGenerator[tuple[str, int], None]:
        """Key and size of whatever calls itself a manifest, of every installation that keeps backups here. `markers`:
        gets the keys of the markers that are met, where they are not hidden."""
        async for info in self._driver.list():
            if markers is not None and is_marker(info.key):
                markers.add(info.key)
            if info.key.endswith(f"/{MANIFEST}"):
                yield info.key, info.size

    async def read_manifest(self, key: str) -> Manifest:
        """Read and authenticate. Raises ObjectNotFound, ManifestInvalid, UnknownSigner."""
        parts: list[bytes] = []
        size = 0
        async with aclosing(self._driver.get(key)) as stream:
            async for chunk in stream:
                size += len(chunk)
                if size > MAX_MANIFEST_BYTES:
                    raise ManifestInvalid(f"{key} is too large to be a manifest")
                parts.append(chunk)
        return unseal(b"".join(parts), self._signer, key.removesuffix(MANIFEST))

    async def delete(self, manifest_key: str) -> None:
        """Manifest first: a deletion that is interrupted leaves leftovers, never a broken backup. Idempotent."""
        try:
            manifest = await self.read_manifest(manifest_key)
        except ObjectNotFound:
            await self._delete_rest(manifest_key)
            return
        await self._driver.delete(manifest_key)
        with suppress(ObjectNotFound):
            await self._driver.stat(manifest_key)
            raise StorageError(f"{manifest_key} is still there after it was deleted; nothing else was touched")
        for component in manifest.components:
            for stored in component.objects:
                await self._driver.delete(stored.key)
        await self._driver.delete(manifest.details.key)

    async def _delete_rest(self, manifest_key: str) -> None:
        """What an interrupted deletion left."""
        keys = [info.key async for info in self._driver.list(manifest_key.removesuffix(MANIFEST))]
        if manifest_key in keys:
            raise StorageError(f"{manifest_key} is listed and cannot be read; try again")
        for key in keys:
            await self._driver.delete(key)

    async def abandon(self, folder: BackupFolder) -> None:
        """Remove what an attempt that will not be committed has stored. Never touches a committed backup."""
        keys = [info.key async for info in self._driver.list(folder.prefix)]
        if folder.manifest_key not in keys:
            for key in keys:
                await self._driver.delete(key)

    async def sweep(
        self,
        installation: str,
        older_than: datetime,
        keep: Callable[[str], bool],
        *,
        puts_since: datetime | None = None,
        dry_run: bool = False,
    ) -> list[ObjectInfo]:
        """Delete objects that no valid manifest names and `keep` does not claim; return what they were.

        `puts_since`: when the oldest put that is still going on can have begun. `dry_run`: only say it.

        Only in our installation's prefix, only older than `older_than`, and never in the folder of a
        manifest that cannot be read, or that was listed and is not found: what we cannot judge, we leave.
        """
        found: list[ObjectInfo] = []
        referenced: set[str] = set()
        untouchable: set[str] = set()
        async for info in self._driver.list(f"{installation}/"):
            found.append(info)
        for info in found:
            folder, _, name = info.key.rpartition("/")
            if name != MANIFEST:
                continue
            try:
                manifest = await self.read_manifest(info.key)
            except Exception:  # noqa: BLE001,RUF100  unreadable for whatever reason: keep all of it
                untouchable.add(folder.rpartition(".")[0])
                continue
            referenced.add(info.key)
            referenced.add(manifest.details.key)
            referenced.update(o.key for c in manifest.components for o in c.objects)
        removed = []
        await self.confirm()
        for info in found:
            attempts = info.key.rpartition("/")[0].rpartition(".")[0]
            young = info.modified_at is None or info.modified_at >= older_than
            if info.key in referenced or attempts in untouchable or young or keep(info.key):
                continue
            if not dry_run:
                await self._driver.delete(info.key)
            removed.append(info)
        if not dry_run:
            begun = older_than if puts_since is None else min(older_than, puts_since)
            await self._driver.remove_leftovers(f"{installation}/", begun)
        return removed
