"""A part that cannot be read from one copy is read from the next, from its beginning."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, closing

import pytest

from app.archives.compression import Compressor
from app.archives.copies import Copy, CopySource
from app.archives.manifest import Manifest
from app.archives.members import MemberList
from app.archives.store import BackupStore
from app.archives.streams import ByteStream, from_bytes
from app.components.extraction import listed
from app.errors import (
    ArchiveDamaged,
    CommandFailed,
    DestinationUnreachable,
    LiberuError,
    LoadFailed,
    ManifestInvalid,
    NotFound,
    ObjectNotFound,
    StorageError,
)
from app.security.signing import Signer
from app.storage.memory import MemoryDriver
from tests.archives.test_store import commit, key_of

CONTENT = os.urandom(3 << 20)


class Place(MemoryDriver):
    """Breaks where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, Callable[[bytes], bytes]] = {}

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        number = 0
        async for chunk in super().get(key, offset):
            number += 1
            yield self.fails[key](chunk) if key in self.fails and number == 2 else chunk


def flipped(chunk: bytes) -> bytes:
    return chunk[:100] + bytes([chunk[100] ^ 1]) + chunk[101:]


def gone(chunk: bytes) -> bytes:
    raise DestinationUnreachable("the line broke")


@pytest.fixture
def places() -> list[Place]:
    return [Place(), Place()]


@pytest.fixture
def stores(places: list[Place], compressor: Compressor, signer: Signer) -> list[BackupStore]:
    return [BackupStore(place, compressor, signer) for place in places]


@pytest.fixture
async def manifest(stores: list[BackupStore]) -> Manifest:
    manifests = [await commit(store, "u1", CONTENT) for store in stores]
    assert manifests[0] == manifests[1]
    return manifests[0]


def source_of(stores: list[BackupStore]) -> CopySource:
    @asynccontextmanager
    async def opened(store: BackupStore) -> AsyncGenerator[BackupStore, None]:
        yield store

    copies = [
        Copy(number, f"place {number}", key_of("u1"), lambda store=store: opened(store))  # type: ignore[misc]
        for number, store in enumerate(stores, 1)
    ]
    return CopySource(copies, [], backup_uid="u1", domain_uid="dom")


class Consumer:
    """Keeps what it got to the last byte; `turns`: how often it was begun."""

    def __init__(self) -> None:
        self.turns = 0
        self.content = b""

    async def __call__(self, stream: ByteStream) -> int:
        self.turns += 1
        self.content = b"".join([chunk async for chunk in stream])
        return len(self.content)


def object_of(manifest: Manifest) -> str:
    return manifest.components[0].objects[0].key


@pytest.mark.parametrize(
    ("fault", "code", "damage", "turns"),
    [
        (flipped, "archive_damaged", True, 2),
        (gone, "destination_unreachable", False, 2),
        (None, "manifest_invalid", True, 1),
    ],
)
async def test_the_second_copy_serves_when_the_first_fails(
    stores: list[BackupStore],
    places: list[Place],
    manifest: Manifest,
    fault: Callable[[bytes], bytes] | None,
    code: str,
    damage: bool,
    turns: int,
) -> None:
    key = object_of(manifest)
    if fault is None:
        await places[0].delete(key)
    else:
        places[0].fails[key] = fault
    use = Consumer()
    async with source_of(stores) as source:
        first, details = await source.open([1])
        assert first.name == "place 1"
        size, copy = await source.component(details.components[0], use)
        assert (size, use.content == CONTENT, use.turns, copy.name) == (len(CONTENT), True, turns, "place 2")
        [problem] = source.problems_of(1)
        assert (problem.copy.name, problem.error.code, problem.damage) == ("place 1", code, damage)


async def test_both_damaged_names_both(stores: list[BackupStore], places: list[Place], manifest: Manifest) -> None:
    for place in places:
        place.fails[object_of(manifest)] = flipped
    async with source_of(stores) as source:
        _, details = await source.open([1])
        with pytest.raises(ArchiveDamaged, match=r"place 1.*place 2"):
            await source.component(details.components[0], Consumer())


async def test_a_part_that_is_nowhere_is_known_before_anything_is_read(
    stores: list[BackupStore], places: list[Place], manifest: Manifest
) -> None:
    for place in places:
        await place.delete(object_of(manifest))
    async with source_of(stores) as source:
        with pytest.raises(ManifestInvalid, match=r"place 1.*place 2"):
            await source.open([1])
    for place in places:
        await place.delete(key_of("u1"))
    async with source_of(stores) as source:
        with pytest.raises(ObjectNotFound):
            await source.open([1])
    async with source_of([]) as source:
        with pytest.raises(NotFound):
            await source.open([1])


async def test_the_first_without_a_readable_manifest(
    stores: list[BackupStore], places: list[Place], manifest: Manifest
) -> None:
    await places[0].put(key_of("u1"), from_bytes(b"[" * 200_000))
    async with source_of(stores) as source:
        copy, details = await source.open([1])
        await source.component(details.components[0], Consumer())
        assert copy.name == "place 2"
        assert [(problem.copy.id, problem.number) for problem in source.problems] == [(1, None)]


async def test_an_error_of_the_consumer_is_no_reason_for_another_copy(
    stores: list[BackupStore], manifest: Manifest
) -> None:
    turns = 0

    async def use(stream: ByteStream) -> None:
        nonlocal turns
        turns += 1
        await anext(stream)
        await stream.aclose()
        raise StorageError("the safety copy's destination is full")

    async with source_of(stores) as source:
        _, details = await source.open([1])
        with pytest.raises(StorageError, match="safety copy"):
            await source.component(details.components[0], use)
    assert (turns, source.problems) == (1, [])


async def test_what_the_consumer_makes_of_a_stream_s_error_hides_it_not(
    stores: list[BackupStore], places: list[Place], manifest: Manifest
) -> None:
    """A command whose input ends early tells an error of its own."""
    places[0].fails[object_of(manifest)] = flipped

    async def use(stream: ByteStream) -> int:
        try:
            return sum([len(chunk) async for chunk in stream])
        except LiberuError as error:
            raise CommandFailed("tar", 2, "unexpected end of file") from error

    async with source_of(stores) as source:
        _, details = await source.open([1])
        assert (await source.component(details.components[0], use))[0] == len(CONTENT)


@pytest.mark.parametrize("error", [CommandFailed("tar", 2, ""), LoadFailed("syntax"), ArchiveDamaged("no tar")])
async def test_damage_that_confuses_the_consumer_before_the_hash_tells_is_damage(
    stores: list[BackupStore], places: list[Place], manifest: Manifest, error: LiberuError
) -> None:
    places[0].fails[object_of(manifest)] = flipped
    turns = 0

    async def use(stream: ByteStream) -> int:
        nonlocal turns
        turns += 1
        if turns == 1:
            await anext(stream)
            await stream.aclose()
            raise error
        return sum([len(chunk) async for chunk in stream])

    async with source_of(stores) as source:
        _, details = await source.open([1])
        size, copy = await source.component(details.components[0], use)
        assert (size, copy.name) == (len(CONTENT), "place 2")
        [problem] = source.problems_of(1)
        assert (problem.copy.name, problem.damage) == ("place 1", True)
    places[0].fails.clear()
    turns = 0
    async with source_of(stores) as source:
        _, details = await source.open([1])
        with pytest.raises(type(error)):
            await source.component(details.components[0], use)
    assert (turns, source.problems) == (1, []), "the archive is whole: it is the consumer's own error"


def tar_of(files: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(files):
            content = f"<p>{number}</p>".encode() * (number % 400)
            member = tarfile.TarInfo(f"d{number % 20}/page {number}.html")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize("place", range(12))
async def test_a_flipped_bit_is_damage_wherever_it_lies(
    places: list[Place], stores: list[BackupStore], place: int
) -> None:
    """A tar's reader, or zstd's, stumbles over many of them long before the hash is known."""
    content = tar_of(3000)
    [manifest, _] = [await commit(store, "u1", content) for store in stores]
    key = object_of(manifest)
    stored = bytearray(b"".join([chunk async for chunk in places[0].get(key)]))
    stored[len(stored) * (2 * place + 1) // 24] ^= 4
    await places[0].put(key, from_bytes(bytes(stored)))

    async def use(stream: ByteStream) -> int:
        with closing(MemberList()) as members:
            async with aclosing(listed(stream, members)) as chunks:
                async for _ in chunks:
                    pass
            return members.count

    async with source_of(stores) as source:
        _, details = await source.open([1])
        count, copy = await source.component(details.components[0], use)
        assert (count, copy.name) == (3000, "place 2")
        assert [(problem.copy.name, problem.damage) for problem in source.problems_of(1)] == [("place 1", True)]


async def test_what_has_changed_something_is_not_begun_again(
    stores: list[BackupStore], places: list[Place], manifest: Manifest
) -> None:
    places[0].fails[object_of(manifest)] = flipped
    use = Consumer()
    async with source_of(stores) as source:
        _, details = await source.open([1])
        with pytest.raises(ArchiveDamaged):
            await source.component(details.components[0], use, lambda: False)
    assert use.turns == 1


async def test_another_dump_is_not_mixed_in(
    stores: list[BackupStore], places: list[Place], manifest: Manifest
) -> None:
    await commit(stores[1], "u1", b"of another moment")
    places[0].fails[object_of(manifest)] = flipped
    async with source_of(stores) as source:
        _, details = await source.open([1])
        with pytest.raises(LiberuError, match="another version"):
            await source.component(details.components[0], Consumer())


async def test_a_cancelled_restore_closes_what_it_has_opened(stores: list[BackupStore], manifest: Manifest) -> None:
    begun, closed = asyncio.Event(), False

    async def use(stream: ByteStream) -> None:
        nonlocal closed
        try:
            await anext(stream)
            begun.set()
            await asyncio.Event().wait()
        finally:
            await stream.aclose()
            closed = True

    async def restore() -> None:
        async with source_of(stores) as source:
            _, details = await source.open([1])
            await source.component(details.components[0], use)

    task = asyncio.create_task(restore())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed
