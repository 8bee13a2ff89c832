"""BackupStore: which keys a backup has at a destination, and in which order they are written and deleted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime

from app.archives import hidden as hiding
from app.archives.compression import Compressor
from app.archives.hidden import Hidden, attempts_of
from app.archives.layout import MANIFEST, BackupFolder
from app.archives.manifest import MAX_MANIFEST_BYTES, Details, Manifest, StoredObject, seal, unseal
from app.archives.pipeline import Digests, Expected, decode, decode_authenticated, encode
from app.archives.streams import ByteStream, Digest, SourceReader, consume, from_bytes
from app.errors import ArchiveDamaged, ManifestInvalid, ObjectNotFound, SizeMismatch, StorageError
from app.security.signing import Signer
from app.storage.base import ObjectInfo, Remains, StorageDriver


def _as_is(stream: ByteStream) -> ByteStream:
    return stream


def _untold(info: ObjectInfo, remains: Remains) -> None:
    return None


async def always() -> None:
    """For whoever cannot lose what it writes."""


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

    async def commit(
        self, folder: BackupFolder, manifest: Manifest, confirm: Callable[[], Awaitable[None]] = always
    ) -> ObjectInfo:
        """Publish the manifest: from here on the backup exists. Checks first that every object is there.

        The manifest is read back. One that may not be whole is deleted, and the error raised: a failed commit leaves
        no backup. `confirm` raises when this attempt may publish nothing any more; it is asked right before, and
        after: between the two a process may have been paused for as long as it takes another to do the same.
        """
        for stored in (*(o for c in manifest.components for o in c.objects), manifest.details):
            if not await self.present(stored):
                raise ArchiveDamaged(f"{stored.key} is gone or has another size; the backup is not committed")
        data = seal(manifest, self._signer)
        await confirm()
        try:
            info = await self._driver.put(folder.manifest_key, from_bytes(data), len(data))
            if await self.read_manifest(folder.manifest_key) != manifest:
                raise ManifestInvalid(f"{folder.manifest_key} is not what was written; the backup is not committed")
            await confirm()
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

    async def manifests(self) -> AsyncGenerator[tuple[str, int], None]:
        """Key and size of whatever calls itself a manifest, of every installation that keeps backups here."""
        async for info in self._driver.list():
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

    async def delete(self, manifest_key: str) -> Remains | None:
        """Manifest first: a deletion that is interrupted leaves leftovers, never a broken backup. Idempotent. Returns
        what the destination keeps of it nevertheless."""
        try:
            manifest = await self.read_manifest(manifest_key)
        except ObjectNotFound:
            return await self._delete_rest(manifest_key)
        remains = [await self._driver.delete(manifest_key)]
        if remains == [None]:
            with suppress(ObjectNotFound):
                await self._driver.stat(manifest_key)
                raise StorageError(f"{manifest_key} is still there after it was deleted; nothing else was touched")
        for component in manifest.components:
            for stored in component.objects:
                remains.append(await self._driver.delete(stored.key))
        remains.append(await self._driver.delete(manifest.details.key))
        return Remains.of_all(remains)

    async def _delete_rest(self, manifest_key: str) -> Remains | None:
        """What an interrupted deletion left, or one that was not ours: old versions too."""
        prefix = manifest_key.removesuffix(MANIFEST)
        keys = [info.key async for info in self._driver.list(prefix)]
        if manifest_key in keys:
            raise StorageError(f"{manifest_key} is listed and cannot be read; try again")
        old = [one.key async for one in self._driver.history(prefix) if not one.current]
        old.sort(key=lambda key: key != manifest_key)
        return Remains.of_all([await self._driver.delete(key) for key in (*old, *keys)])

    async def locked_until(self, manifest_key: str) -> datetime | None:
        """Until when the destination lets nobody delete a backup; None: it does now, or there is none."""
        try:
            return await self._driver.locked_until(manifest_key)
        except ObjectNotFound:
            return None

    async def extend_locks(self, manifest_key: str, least: datetime, until: datetime) -> bool:
        """Lock a backup until `until` when its lock ends before `least`; True when it was. The manifest last: what
        was interrupted is begun anew."""
        present = await self._driver.locked_until(manifest_key)
        if present is not None and present >= least:
            return False
        manifest = await self.read_manifest(manifest_key)
        objects = [stored.key for component in manifest.components for stored in component.objects]
        for key in (*objects, manifest.details.key, manifest_key):
            await self._driver.lock(key, until)
        return True

    async def hidden(self, installation: str) -> Hidden:
        """What is here of an installation as old versions only."""
        return await hiding.found(self._driver.history(f"{installation}/"))

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
        given_up: Collection[str] = (),
        puts_since: datetime | None = None,
        dry_run: bool = False,
        known: Collection[str] = (),
        hidden: Hidden | None = None,
        forget_hidden: bool = False,
        left: Callable[[ObjectInfo, Remains], None] = _untold,
    ) -> list[ObjectInfo]:
        """Delete objects that no valid manifest names and `keep` does not claim; return what they were.

        `given_up`: uids of backups that ended without being made: their manifests count for nothing, and go first.
        `puts_since`: when the oldest put that is still going on can have begun. `dry_run`: only say it. `known`:
        manifests that the catalogue counts on: where one is gone, somebody else has deleted it, and what belongs to
        it stays. `hidden`: old versions, which go too; those of whole backups only with `forget_hidden`. `left` is
        told what the destination keeps of an object nevertheless.

        Only in our installation's prefix, only older than `older_than`, and never in the folder of a
        manifest that cannot be read: what we cannot judge, we leave.
        """
        found: list[ObjectInfo] = []
        referenced: set[str] = set()
        untouchable: set[str] = set()
        async for info in self._driver.list(f"{installation}/"):
            found.append(info)
        for info in found:
            if not info.key.endswith(f"/{MANIFEST}"):
                continue
            try:
                manifest = await self.read_manifest(info.key)
            except ObjectNotFound:
                continue
            except Exception:  # noqa: BLE001,RUF100  unreadable for whatever reason: keep all of it
                untouchable.add(attempts_of(info.key))
                continue
            if manifest.backup_uid in given_up:
                continue
            referenced.add(info.key)
            referenced.add(manifest.details.key)
            referenced.update(o.key for c in manifest.components for o in c.objects)
        untouchable.update(attempts_of(key) for key in known if key not in referenced)
        if hidden is not None:
            found += hidden.objects
            untouchable |= set() if forget_hidden else hidden.backups
        removed = []
        for info in sorted(found, key=lambda info: not info.key.endswith(f"/{MANIFEST}")):
            attempts = attempts_of(info.key)
            young = info.modified_at is None or info.modified_at >= older_than
            if info.key in referenced or attempts in untouchable or young or keep(info.key):
                continue
            remains = None if dry_run else await self._driver.delete(info.key)
            if remains is None:
                removed.append(info)
            else:
                left(info, remains)
        if not dry_run:
            begun = older_than if puts_since is None else min(older_than, puts_since)
            await self._driver.remove_leftovers(f"{installation}/", begun)
        return removed
