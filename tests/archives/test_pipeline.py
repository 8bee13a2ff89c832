"""Archives: what goes in comes out, and nothing that was cut, altered or swapped passes for whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.archives.compression import FRAME_SIZE, Compressor, parse_seek_table, seek_table
from app.archives.compression import Frame as SeekFrame
from app.archives.pipeline import Digests, Expected, decode, encode
from app.archives.streams import from_bytes
from app.errors import ArchiveDamaged, DecryptionFailed, KeyMaterialInvalid
from app.security import encryption

IDENTITY = encryption.generate_identity()
RECIPIENT = encryption.recipient_of(IDENTITY)


async def collect(stream: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def stored(plain: bytes, compressor: Compressor, recipients: list[str]) -> tuple[bytes, Expected]:
    digests = Digests()
    archive = await collect(encode(from_bytes(plain), compressor, recipients, digests))
    assert digests.stored.size == len(archive)
    return archive, Expected(digests.plain.size, digests.plain.sha256, digests.stored.size, digests.stored.sha256)


PLAIN = os.urandom(FRAME_SIZE) + bytes(FRAME_SIZE) + b"tail" * 1000


@pytest.mark.parametrize(
    "recipients", [[], [RECIPIENT], [RECIPIENT, encryption.recipient_of(encryption.generate_identity())]]
)
@pytest.mark.parametrize("plain", [b"", b"x", PLAIN], ids=["empty", "one byte", "several frames"])
async def test_round_trip(plain: bytes, recipients: list[str], compressor: Compressor) -> None:
    archive, expected = await stored(plain, compressor, recipients)
    assert await collect(decode(from_bytes(archive), [IDENTITY] if recipients else None, expected)) == plain


async def test_standard_tools_read_it(tmp_path: Path, compressor: Compressor) -> None:
    (tmp_path / "identity").write_text(IDENTITY + "\n")
    for name, plain in (("a", PLAIN), ("b", b"")):
        archive, _ = await stored(plain, compressor, [RECIPIENT])
        (tmp_path / name).write_bytes(archive)
        opened = subprocess.run(
            ["age", "-d", "-i", str(tmp_path / "identity"), str(tmp_path / name)],
            capture_output=True,
            check=True,
        )
        assert subprocess.run(["zstd", "-dc"], input=opened.stdout, capture_output=True, check=True).stdout == plain


async def test_each_frame_can_be_read_alone(compressor: Compressor) -> None:
    archive, _ = await stored(PLAIN, compressor, [])
    frames = parse_seek_table(archive)
    assert sum(frame.plain for frame in frames) == len(PLAIN)
    start = sum(frame.compressed for frame in frames[:1])
    second = archive[start : start + frames[1].compressed]
    assert subprocess.run(["zstd", "-dc"], input=second, capture_output=True, check=True).stdout == b"\0" * FRAME_SIZE


@pytest.mark.parametrize("encrypted", [True, False])
async def test_cut_anywhere_even_at_a_frames_border_is_refused(encrypted: bool, compressor: Compressor) -> None:
    archive, expected = await stored(PLAIN, compressor, [RECIPIENT] if encrypted else [])
    frames = parse_seek_table((await stored(PLAIN, compressor, []))[0])
    cuts = [0, 1, 100, len(archive) // 2, len(archive) - 1, frames[0].compressed]
    cuts += [] if encrypted else [sum(f.compressed for f in frames), sum(f.compressed for f in frames[:2])]
    for cut in cuts:
        received = b""
        with pytest.raises((ArchiveDamaged, DecryptionFailed)):
            async for chunk in decode(from_bytes(archive[:cut]), [IDENTITY] if encrypted else None, expected):
                received += chunk
        assert len(received) < len(PLAIN), "the last chunk is withheld"


@pytest.mark.parametrize("encrypted", [True, False])
async def test_a_flipped_bit_is_refused(encrypted: bool, compressor: Compressor) -> None:
    archive, expected = await stored(PLAIN, compressor, [RECIPIENT] if encrypted else [])
    for position in (5, len(archive) // 3, len(archive) - 3):
        damaged = bytearray(archive)
        damaged[position] ^= 1
        with pytest.raises((ArchiveDamaged, DecryptionFailed)):
            await collect(decode(from_bytes(bytes(damaged)), [IDENTITY] if encrypted else None, expected))


async def test_a_swapped_archive_is_refused(compressor: Compressor) -> None:
    _, expected = await stored(PLAIN, compressor, [RECIPIENT])
    other, _ = await stored(PLAIN[:-1] + b"!", compressor, [RECIPIENT])
    with pytest.raises(ArchiveDamaged):
        await collect(decode(from_bytes(other), [IDENTITY], expected))


async def test_a_wrong_or_missing_key_says_so(compressor: Compressor) -> None:
    archive, expected = await stored(b"secret", compressor, [RECIPIENT])
    with pytest.raises(DecryptionFailed):
        await collect(decode(from_bytes(archive), [encryption.generate_identity()], expected))
    with pytest.raises(DecryptionFailed):
        await collect(decode(from_bytes(archive), [], expected))


def test_key_text_never_appears_in_an_error() -> None:
    with pytest.raises(KeyMaterialInvalid) as caught:
        encryption.parse_identity("AGE-SECRET-KEY-1BROKENSECRET")
    assert "BROKENSECRET" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=50))
def test_seek_table_round_trip(pairs: list[tuple[int, int]]) -> None:
    frames = [SeekFrame(*pair) for pair in pairs]
    assert parse_seek_table(b"frames".ljust(20) + seek_table(frames)) == frames


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_seek_table_parser_survives_anything(tail: bytes) -> None:
    with suppress(ArchiveDamaged):
        parse_seek_table(tail)


async def test_source_error_surfaces_at_the_consumer(compressor: Compressor) -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"x" * 5_000_000
        raise RuntimeError("tar died")

    with pytest.raises(RuntimeError, match="tar died"):
        await collect(encode(failing(), compressor, [RECIPIENT], Digests()))


async def test_closing_early_ends_the_source(compressor: Compressor) -> None:
    closed = False

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield os.urandom(1 << 20)
        finally:
            closed = True

    archive = encode(endless(), compressor, [], Digests())
    assert await anext(archive)
    await archive.aclose()
    assert closed
