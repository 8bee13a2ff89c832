"""BackupStore: which keys a backup has at a destination, and in which order they are written and deleted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import datetime

from app.archives import hidden as hiding
from app.archives.compression import Compressor
from app.archives.hidden import Hidden, attempts_of
from app.archives.layout import MANIFEST, BackupFolder, is_marker
from app.archives.manifest import (
    MAX_DETAILS_BYTES,
    MAX_MANIFEST_BYTES,
    Details,
    Manifest,
    StoredObject,
    pack_details,
    seal,
    unpack_details,
    unseal,
)
from app.archives.pipeline import Digests, Expected, at_most, decode, decode_authenticated, encode
from app.archives.spill import Spill
from app.archives.streams import ByteStream, Digest, SourceReader, consume, from_bytes
from app.archives.swept import Swept
from app.errors import (
    ArchiveDamaged,
    DestinationUnreachable,
    ManifestInvalid,
    ObjectNotFound,
    SizeMismatch,
    StorageError,
)
from app.security.signing import Signer
from app.storage.base import ObjectInfo, Remains, StorageDriver

#: To read one small object, however often the line breaks meanwhile.
_SMALL_SECONDS = 600


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

    def at(self, moment: datetime | None) -> BackupStore:
        """The same destination as it was at `moment`; None: this store. It ends with this one. Raises NoPast."""
        if moment is None:
            return self
        return BackupStore(self._driver.at(moment), self._compressor, self._signer)

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
                if digest.size > stored.size:  # how long it goes on tells nothing more
                    break
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
        return await self.put_component(key, from_bytes(pack_details(details)), recipients)

    async def read_details(self, manifest: Manifest, identities: Sequence[str]) -> Details:
        """Raises ArchiveDamaged, DecryptionFailed. The hash in the signed manifest authenticates it."""
        stored = manifest.details
        if stored.size > 2 * MAX_DETAILS_BYTES:
            raise ArchiveDamaged(f"{stored.key} is too large to hold the details of a backup")
        raw = await self._small(stored.key, stored.size)
        if (len(raw), hashlib.sha256(raw).hexdigest()) != (stored.size, stored.sha256):
            raise ArchiveDamaged(f"{stored.key} is damaged")
        secret = identities if manifest.details_encryption else None
        plain = bytearray()
        async with aclosing(decode_authenticated(from_bytes(raw), secret, MAX_DETAILS_BYTES)) as chunks:
            async for chunk in chunks:
                plain += chunk
        details = await asyncio.to_thread(unpack_details, bytes(plain), stored.key)
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
        await self.confirm()
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
        try:
            data = await self._small(key, MAX_MANIFEST_BYTES)
        except ArchiveDamaged as error:
            raise ManifestInvalid(f"{key} is too large to be a manifest") from error
        return await asyncio.to_thread(unseal, data, self._signer, key.removesuffix(MANIFEST))

    async def _small(self, key: str, most: int) -> bytes:
        """An object of at most so many bytes. Raises ArchiveDamaged for a larger one, as soon as that shows."""
        content = bytearray()
        try:
            async with asyncio.timeout(_SMALL_SECONDS), aclosing(at_most(self._driver.get(key), most)) as stream:
                async for chunk in stream:
                    content += chunk
        except TimeoutError as error:
            raise DestinationUnreachable(f"Reading {key}: it did not end within {_SMALL_SECONDS} seconds") from error
        return bytes(content)

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
        remains: list[Remains | None] = []
        async with self._listed(prefix) as found:
            if await found.has(manifest_key):
                raise StorageError(f"{manifest_key} is listed and cannot be read; try again")
            old = [one.key async for one in self._driver.history(prefix) if not one.current]
            for key in sorted(old, key=lambda key: key != manifest_key):
                remains.append(await self._driver.delete(key))
            async for info in found.unnamed():
                remains.append(await self._driver.delete(info.key))
        return Remains.of_all(remains)

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
        async with self._listed(folder.prefix) as found:
            if not await found.has(folder.manifest_key):
                async for info in found.unnamed():
                    await self._driver.delete(info.key)

    @asynccontextmanager
    async def _listed(self, prefix: str) -> AsyncIterator[Spill]:
        """All that lies below `prefix`, kept on disk."""
        with closing(Spill()) as found:
            await found.fill(self._driver.list(prefix))
            yield found

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
    ) -> Swept:
        """Delete objects that no valid manifest names and `keep` does not claim; return what they were.

        `given_up`: uids of backups that ended without being made: their manifests count for nothing, and go first.
        `puts_since`: when the oldest put that is still going on can have begun. `dry_run`: only say it. `known`:
        manifests that the catalogue counts on: where one is gone, somebody else has deleted it, and what belongs to
        it stays. `hidden`: old versions, which go too; those of whole backups only with `forget_hidden`. `left` is
        told what the destination keeps of an object nevertheless.

        Only in our installation's prefix, only older than `older_than`, and never in the folder of a
        manifest that cannot be read, or that was listed and is not found: what we cannot judge, we leave.
        """
        swept = Swept()
        gone = set(known)
        async with self._listed(f"{installation}/") as found:
            async for info in found.ending_with(f"/{MANIFEST}"):
                try:
                    manifest = await self.read_manifest(info.key)
                except ObjectNotFound:  # deleted meanwhile, or away for a moment: the next sweep knows
                    await found.name_below(attempts_of(info.key))
                    continue
                except Exception as error:  # noqa: BLE001,RUF100  unreadable for whatever reason: keep all of it
                    await found.name_below(attempts_of(info.key))
                    swept.refuse(info.key, error)
                    continue
                if manifest.backup_uid in given_up:
                    continue
                gone.discard(info.key)
                objects = (o.key for c in manifest.components for o in c.objects)
                await found.name([info.key, manifest.details.key, *objects])
            if hidden is not None:
                await found.add(hidden.objects)
            kept = set() if hidden is None or forget_hidden else hidden.backups
            for attempts in {*(attempts_of(key) for key in gone), *kept}:
                await found.name_below(attempts)
            await self.confirm()
            for manifests in (True, False):  # a folder's manifest goes first
                async for info in found.unnamed():
                    young = info.modified_at is None or info.modified_at >= older_than
                    if info.key.endswith(f"/{MANIFEST}") != manifests or young or keep(info.key):
                        continue
                    remains = None if dry_run else await self._driver.delete(info.key)
                    if remains is None:
                        swept.remove(info)
                    else:
                        left(info, remains)
        if not dry_run:
            begun = older_than if puts_since is None else min(older_than, puts_since)
            await self._driver.remove_leftovers(f"{installation}/", begun)
        return swept
