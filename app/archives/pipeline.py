"""dump → count and hash → zstd → age → count and hash, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from app.archives.compression import Compressor, decompress
from app.archives.streams import ByteStream, Digest, Sink, SourceReader, transform, watched
from app.errors import ArchiveDamaged
from app.security import encryption


@dataclass(slots=True)
class Digests:
    """Sizes and hashes of one archive; complete when its stream has ended."""

    plain: Digest = field(default_factory=Digest)
    stored: Digest = field(default_factory=Digest)


@dataclass(frozen=True, slots=True)
class Expected:
    """What was recorded of one archive: sizes in bytes, SHA-256 in hex."""

    plain_size: int
    plain_sha256: str
    stored_size: int
    stored_sha256: str


def encode(source: ByteStream, compressor: Compressor, recipients: Sequence[str], digests: Digests) -> ByteStream:
    """Yield the archive of `source` as it is stored; `digests` is complete afterwards. Closes `source`."""

    def packed(reader: SourceReader, sink: Sink) -> None:
        if not recipients:
            sink.digest = digests.stored
        for data in compressor.compress(reader.chunks()):
            sink.write(data)

    def sealed(reader: SourceReader, sink: Sink) -> None:
        sink.digest = digests.stored
        encryption.encrypt(reader, sink, recipients)

    archive = transform(watched(source, digests.plain.update, name="hash"), packed, "compress")
    return transform(archive, sealed, "encrypt") if recipients else archive


def decode(source: ByteStream, identities: Sequence[str] | None, expected: Expected) -> ByteStream:
    """Yield the plain bytes of a stored archive; `identities` is None for an unencrypted one.

    The last chunk is withheld until sizes and hashes match what was recorded, so that no consumer can take
    a cut or altered archive for a whole one; nothing is read or unpacked beyond the recorded sizes.
    Raises ArchiveDamaged, DecryptionFailed. Closes `source`.
    Of an encrypted archive the plain hash alone is compared: age authenticates every stored byte itself.
    """
    digests = Digests(stored=Digest(hashing=identities is None))

    def checked(reader: SourceReader, sink: Sink) -> None:
        reader.digest = digests.plain
        held = b""
        for chunk in reader.chunks():
            sink.write(held)
            held = chunk
        _compare(digests, expected)
        sink.write(held)

    plain = _decode(at_most(source, expected.stored_size), identities, digests, expected.plain_size)
    return transform(plain, checked, "hash")


def decode_authenticated(source: ByteStream, identities: Sequence[str] | None, most: int) -> ByteStream:
    """Like decode, for bytes whose hash the caller has verified already; of `most` plain bytes."""
    return _decode(source, identities, Digests(stored=Digest(hashing=False)), most)


async def at_most(source: ByteStream, most: int) -> ByteStream:
    """`source`, which ends with ArchiveDamaged where it is longer than `most` bytes. Closes it."""
    left = most
    async with aclosing(source):
        async for chunk in source:
            left -= len(chunk)
            if left < 0:
                raise ArchiveDamaged(f"The archive is longer than the {most} bytes that were recorded")
            yield chunk


def _decode(source: ByteStream, identities: Sequence[str] | None, digests: Digests, most: int) -> ByteStream:
    def opened(reader: SourceReader, sink: Sink) -> None:
        reader.digest = digests.stored
        if identities is None:
            for chunk in reader.chunks():
                sink.write(chunk)
        else:
            encryption.decrypt(reader, sink, identities)

    def unpacked(reader: SourceReader, sink: Sink) -> None:
        left = most
        for chunk in decompress(reader):
            left -= len(chunk)
            if left < 0:
                raise ArchiveDamaged(f"The archive holds more than the {most} bytes that were recorded of it")
            sink.write(chunk)

    return transform(transform(source, opened, "decrypt"), unpacked, "decompress")


def _compare(digests: Digests, expected: Expected) -> None:
    stored_sha256 = digests.stored.sha256 or expected.stored_sha256
    found = (digests.stored.size, stored_sha256, digests.plain.size, digests.plain.sha256)
    if found != (expected.stored_size, expected.stored_sha256, expected.plain_size, expected.plain_sha256):
        raise ArchiveDamaged(
            f"The archive is not what was recorded: {digests.stored.size} stored and {digests.plain.size} plain "
            f"bytes instead of {expected.stored_size} and {expected.plain_size}, or its hash differs; "
            "restore another backup or another copy of this one"
        )
