"""Every operation fails in every way, at every moment of a backup's life: a retried success, or an honest failure."""

from __future__ import annotations

import os

import pytest

from app.archives.compression import Compressor
from app.archives.layout import BackupFolder
from app.archives.manifest import ComponentDetails, Details, Manifest, ManifestComponent
from app.archives.mirror import MirroredStore
from app.archives.store import BackupStore, StoredArchive
from app.archives.streams import from_bytes
from app.db.base import now
from app.errors import ArchiveError, LiberuError, ObjectNotFound, StorageError
from app.security.encryption import generate_identity, recipient_of
from app.security.signing import Signer
from app.storage.base import ObjectInfo
from app.storage.memory import MemoryDriver
from tests.storage.faults import KINDS, OPERATIONS, Fault, FaultyDriver

IDENTITY = generate_identity()
PARTS = {1: os.urandom(3_000_000), 2: b"SELECT 1;" * 1000}
FOLDER = BackupFolder("inst", "shop.example.com", "dom", now(), "full", "uid", 1)


async def make(*stores: BackupStore) -> dict[int, ObjectInfo]:
    """What the backup job does with the stores of its destinations; where it is committed."""
    recipients = [recipient_of(IDENTITY)]
    archives: dict[int, StoredArchive] = {}
    store = MirroredStore(dict(enumerate(stores)))
    for number, plain in PARTS.items():
        key = FOLDER.component_key(number, "files", "", encrypted=True)
        archives[number], _ = await store.put_component(key, from_bytes(plain), recipients)
    details = Details(
        backup_uid="uid",
        domain_name="shop.example.com",
        components=[
            ComponentDetails(
                number=number, kind="files", name="files", plain_size=archive.plain_size,
                plain_sha256=archive.plain_sha256, started_at=now(), finished_at=now(),
            )
            for number, archive in archives.items()
        ],
    )  # fmt: skip
    stored, _ = await store.put_details(FOLDER.details_key(encrypted=True), details, recipients)
    components = [
        ManifestComponent(number=number, kind="files", objects=[archive.object], encryption="age")
        for number, archive in archives.items()
    ]
    manifest = Manifest(
        installation="inst", folder=FOLDER.prefix, backup_uid="uid", domain_uid="dom", owner=1, type="full",
        status="completed", created_at=now(), finished_at=now(), details=stored.object, details_encryption="age",
        components=components,
    )  # fmt: skip
    return await store.commit(FOLDER, manifest)


async def restored(store: BackupStore) -> dict[int, bytes]:
    manifest = await store.read_manifest(FOLDER.manifest_key)
    details = await store.read_details(manifest, [IDENTITY])
    found = {}
    for part in details.components:
        [stored] = next(c.objects for c in manifest.components if c.number == part.number)
        plain = store.open_component(stored, part.plain_size, part.plain_sha256, [IDENTITY])
        found[part.number] = b"".join([chunk async for chunk in plain])
    return found


FAULTS = [Fault(operation, nth, kind) for operation in OPERATIONS for nth in range(4) for kind in KINDS]


def store_of(driver: MemoryDriver | FaultyDriver, compressor: Compressor, signer: Signer) -> BackupStore:
    return BackupStore(driver, compressor, signer)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.operation}-{fault.nth}-{fault.kind}")
async def test_a_backup_is_whole_or_there_is_none(fault: Fault, compressor: Compressor, signer: Signer) -> None:
    disk = MemoryDriver()
    faulty = FaultyDriver(disk, fault)
    sound = store_of(disk, compressor, signer)
    try:
        await make(store_of(faulty, compressor, signer))
    except LiberuError:
        with pytest.raises(ObjectNotFound):
            await sound.read_manifest(FOLDER.manifest_key)
        await sound.abandon(FOLDER)
        assert [info async for info in disk.list()] == []
        return
    assert await restored(sound) == PARTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.operation}-{fault.nth}-{fault.kind}")
@pytest.mark.parametrize("sick", [0, 1])
async def test_one_copy_may_fail_the_other_is_whole(
    fault: Fault, sick: int, compressor: Compressor, signer: Signer
) -> None:
    disks = [MemoryDriver(), MemoryDriver()]
    drivers: list[MemoryDriver | FaultyDriver] = [*disks]
    drivers[sick] = FaultyDriver(disks[sick], fault)
    committed = await make(*(store_of(driver, compressor, signer) for driver in drivers))
    assert 1 - sick in committed
    for number, disk in enumerate(disks):
        sound = store_of(disk, compressor, signer)
        if number in committed:
            assert await restored(sound) == PARTS
        else:
            with pytest.raises(ObjectNotFound):
                await sound.read_manifest(FOLDER.manifest_key)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.operation}-{fault.nth}-{fault.kind}")
async def test_a_restore_gives_every_byte_or_an_error(fault: Fault, compressor: Compressor, signer: Signer) -> None:
    disk = MemoryDriver()
    await make(store_of(disk, compressor, signer))
    try:
        found = await restored(store_of(FaultyDriver(disk, fault), compressor, signer))
    except (StorageError, ArchiveError):
        pass
    else:
        assert found == PARTS
    assert await restored(store_of(disk, compressor, signer)) == PARTS, "reading changes nothing"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.operation}-{fault.nth}-{fault.kind}")
async def test_a_deletion_that_fails_leaves_a_whole_backup_or_none(
    fault: Fault, compressor: Compressor, signer: Signer
) -> None:
    disk = MemoryDriver()
    sound = store_of(disk, compressor, signer)
    await make(sound)
    try:
        await store_of(FaultyDriver(disk, fault), compressor, signer).delete(FOLDER.manifest_key)
    except LiberuError:
        try:
            await sound.read_manifest(FOLDER.manifest_key)
        except ObjectNotFound:
            await sound.abandon(FOLDER)
        else:
            assert await restored(sound) == PARTS
            await sound.delete(FOLDER.manifest_key)
    with pytest.raises(ObjectNotFound):
        await sound.read_manifest(FOLDER.manifest_key)
