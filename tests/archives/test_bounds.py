"""What a destination answers is bounded: a bomb, an object without an end or hostile JSON is one named problem."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from app.archives.compression import Compressor
from app.archives.manifest import MAX_DETAILS_BYTES, Details, Manifest, ManifestComponent, StoredObject, seal
from app.archives.store import BackupStore
from app.archives.streams import from_bytes
from app.errors import ArchiveDamaged, ArchiveError, ManifestInvalid
from app.recovery import Keys, Recovery
from app.security.signing import Signer
from app.storage.base import ObjectInfo
from app.storage.memory import MemoryDriver
from tests.archives.test_store import NOW, commit, folder_of, key_of

MIB = 1 << 20


class Endless(MemoryDriver):
    """Objects at `endless` never end; how much was read of them is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.endless: set[str] = set()
        self.read = 0

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        while key in self.endless:
            self.read += MIB
            assert self.read < 256 * MIB, "nothing ends this"
            yield bytes(MIB)
        async for chunk in super().get(key, offset):
            yield chunk


@pytest.fixture
def driver() -> Endless:
    return Endless()


@pytest.fixture
def store(driver: Endless, compressor: Compressor, signer: Signer) -> BackupStore:
    return BackupStore(driver, compressor, signer)


def manifest_of(uid: str, **values: Any) -> Manifest:
    folder = folder_of(uid)
    part = StoredObject(key=f"{folder.prefix}01-files.tar.zst", size=1, sha256="0" * 64)
    known: dict[str, Any] = {
        "installation": "inst", "folder": folder.prefix, "backup_uid": uid, "domain_uid": "dom", "owner": 1,
        "type": "files", "status": "completed", "created_at": NOW, "finished_at": NOW, "details": part,
        "components": [ManifestComponent(number=1, kind="files", objects=[part])],
    }  # fmt: skip
    return Manifest.model_validate({**known, **values})


async def test_details_that_expand_without_end_are_damage_and_take_no_memory(
    store: BackupStore, driver: Endless
) -> None:
    bomb = zstandard.compress(bytes(800 * MIB), 19)
    key = folder_of("u1").details_key(encrypted=False)
    await driver.put(key, from_bytes(bomb))
    stored = StoredObject(key=key, size=len(bomb), sha256=hashlib.sha256(bomb).hexdigest())
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveDamaged, match="more than"):
            await store.read_details(manifest_of("u1", details=stored), [])
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_DETAILS_BYTES
    finally:
        tracemalloc.stop()


async def test_an_object_without_an_end_is_read_no_further_than_it_should_be_long(
    store: BackupStore, driver: Endless
) -> None:
    manifest = await commit(store, "u1")
    driver.endless = {manifest.details.key, manifest.components[0].objects[0].key, key_of("u1")}
    with pytest.raises(ArchiveDamaged):
        await store.read_details(manifest, [])
    with pytest.raises(ArchiveDamaged):
        await store.verify_object(manifest.components[0].objects[0])
    with pytest.raises(ArchiveDamaged):
        [chunk async for chunk in store.open_component(manifest.components[0].objects[0], 7, "0" * 64, None)]
    with pytest.raises(ManifestInvalid):
        await store.read_manifest(key_of("u1"))
    assert driver.read < 64 * MIB
    huge = StoredObject(key=manifest.details.key, size=20 << 30, sha256="0" * 64)
    driver.read = 0
    with pytest.raises(ArchiveDamaged, match="too large"):
        await store.read_details(manifest_of("u1", details=huge), [])
    assert driver.read == 0


async def test_a_component_never_expands_beyond_what_was_recorded(store: BackupStore, driver: Endless) -> None:
    bomb = zstandard.compress(bytes(64 * MIB), 19)
    await driver.put("bomb", from_bytes(bomb))
    stored = StoredObject(key="bomb", size=len(bomb), sha256=hashlib.sha256(bomb).hexdigest())
    got = 0
    with pytest.raises(ArchiveDamaged):
        async for chunk in store.open_component(stored, 2 * MIB, "0" * 64, None):
            got += len(chunk)
    assert got <= 2 * MIB


HOSTILE = [
    b"[" * 200_000,
    b'{"manifest":' * 100_000,
    b"9" * 100_000,
    b"[" + b"[]," * 1_000_000 + b"[]]",
    b"\xff\xfe" * 1000,
    b"null",
    b'{"manifest": {}, "signature": {"key_id": "\\ud800", "value": ""}}',
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_json_is_one_refused_manifest(store: BackupStore, driver: Endless, content: bytes) -> None:
    await commit(store, "good")
    await driver.put(key_of("bad"), from_bytes(content))
    with pytest.raises(ManifestInvalid):
        await store.read_manifest(key_of("bad"))
    listed = [one async for one in Recovery(store, Keys([], Signer(b"\1" * 32))).backups()]
    assert sorted((one.key, one.manifest is None) for one in listed) == [
        (key_of("bad"), True),
        (key_of("good"), False),
    ]
    swept = await store.sweep("inst", datetime.now(UTC) + timedelta(hours=1), lambda key: False)
    assert (swept.count, [problem["code"] for problem in swept.refused]) == (0, ["manifest_invalid"])


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("details", "size"), 1 << 63),
        (("details", "size"), -1),
        (("created_at",), "9999-12-31T23:59:59-14:00"),
        (("created_at",), "0001-01-01T00:00:00+14:00"),
        (("finished_at",), "2026-11-23T02:15:00"),
        (("owner",), 1 << 40),
        (("components", 0, "number"), 1 << 40),
        (("folder",), "x" * 100_000),
    ],
)
async def test_what_no_database_holds_is_refused_though_it_is_signed(
    store: BackupStore, driver: Endless, signer: Signer, where: tuple[Any, ...], value: Any
) -> None:
    document = json.loads(manifest_of("u1").model_dump_json())
    inner = document
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    message = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    signature = {"algorithm": "ed25519", "key_id": signer.key_id, "value": signer.sign(message)}
    await driver.put(key_of("u1"), from_bytes(json.dumps({"manifest": document, "signature": signature}).encode()))
    with pytest.raises(ManifestInvalid):
        await store.read_manifest(key_of("u1"))


async def test_what_could_not_be_read_again_is_not_written(store: BackupStore, signer: Signer) -> None:
    deep: Any = None
    for _ in range(220):
        deep = [deep]
    for metadata in (deep, {"half": "\ud800"}, "x" * (MAX_DETAILS_BYTES + 1)):
        details = Details(backup_uid="u", domain_name="d", components=[], panel_metadata=metadata)
        with pytest.raises(ArchiveError, match="could not be read again"):
            await store.put_details("k", details, [])
    with pytest.raises(ManifestInvalid, match="read again"):
        many = [manifest_of("u").components[0].model_copy(update={"recipients": ["x" * 100] * 100})] * 1000
        seal(manifest_of("u", components=many), signer)


async def test_details_that_are_none_are_damage(store: BackupStore, driver: Endless, compressor: Compressor) -> None:
    for content in (b"[" * 100_000, b"{}", b"\xff"):
        archive = await store.put_component("d", from_bytes(content), [])
        with pytest.raises(ArchiveDamaged):
            await store.read_details(manifest_of("u", details=archive.object), [])


class Growing(MemoryDriver):
    """Lists more than fits into the memory that is allowed."""

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        for number in range(120_000):
            yield ObjectInfo(f"{prefix}shop-dom/folder.1/{number:0200d}", 1, NOW)


async def test_a_sweep_of_very_many_objects_keeps_few_in_memory(compressor: Compressor, signer: Signer) -> None:
    store = BackupStore(Growing(), compressor, signer)
    tracemalloc.start()
    try:
        swept = await store.sweep("inst", NOW + timedelta(hours=1), lambda key: False, dry_run=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (swept.count, swept.bytes, len(swept.removed)) == (120_000, 120_000, 1000)
    assert peak < 8 * MIB


async def test_recovery_names_what_is_damaged_and_writes_the_rest(
    store: BackupStore, driver: Endless, tmp_path: Path
) -> None:
    manifest = await commit(store, "u1")
    await driver.put(manifest.components[0].objects[0].key, from_bytes(b"damaged"))
    recovered = await Recovery(store, Keys([], Signer(b"\1" * 32))).restore("u1", tmp_path / "to", lambda *_: None)
    assert recovered.written == []
    assert len(recovered.problems) == 1
    assert "files" in recovered.problems[0]


async def test_recovery_passes_over_a_broken_attempt(store: BackupStore, driver: Endless, tmp_path: Path) -> None:
    broken = folder_of("u1", attempt=2).manifest_key
    await driver.put(broken, from_bytes(b"[" * 200_000))
    await commit(store, "u1")
    recovery = Recovery(store, Keys([], Signer(b"\1" * 32)))
    assert (await recovery._find("u1")).backup_uid == "u1"
