"""zstd as independent frames with the seek table of zstd's seekable format.

Source: facebook/zstd, contrib/seekable_format/zstd_seekable_compression_format.md, version 0.1.0. Each frame
holds FRAME_SIZE plain bytes (the last one fewer), so that a part can be read from the middle. The table is a
skippable frame, which plain `zstd -d` ignores:

    0x184D2A5E | length | entries {compressed size, plain size}… | number of frames | flags | 0x8F92EAB1
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from app.archives.streams import CHUNK, SourceReader
from app.errors import ArchiveDamaged

FRAME_SIZE = 4 << 20
#: A window that a frame fits into: through a smaller one a stream is compressed out of two pieces, for a fifth
#: more time and nothing else.
_WINDOW_LOG = 22
SKIPPABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
_FOOTER = struct.Struct("<IBI")
_MAX_WINDOW = 128 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """Sizes in bytes of one frame, compressed and plain."""

    compressed: int
    plain: int


def seek_table(frames: Iterable[Frame]) -> bytes:
    entries = b"".join(struct.pack("<II", frame.compressed, frame.plain) for frame in frames)
    body = entries + _FOOTER.pack(len(entries) // 8, 0, SEEKABLE_MAGIC)
    return struct.pack("<II", SKIPPABLE_MAGIC, len(body)) + body


def parse_seek_table(tail: bytes) -> list[Frame]:
    """Read the table from the last bytes of an archive. Raises ArchiveDamaged."""
    if len(tail) < _FOOTER.size:
        raise ArchiveDamaged("The archive is too short to hold a seek table")
    count, flags, magic = _FOOTER.unpack(tail[-_FOOTER.size :])
    size = count * 8 + _FOOTER.size
    if magic != SEEKABLE_MAGIC or flags != 0 or len(tail) < size + 8:
        raise ArchiveDamaged("The archive does not end with a seek table: it was cut or overwritten")
    if struct.unpack("<II", tail[-size - 8 : -size]) != (SKIPPABLE_MAGIC, size):
        raise ArchiveDamaged("The archive's seek table is malformed")
    numbers = struct.unpack(f"<{count * 2}I", tail[-size : -_FOOTER.size])
    return [Frame(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


class Compressor:
    """zstd at one level; it releases the interpreter's lock, and never holds more than a window of a stream."""

    def __init__(self, level: int = 3) -> None:
        self._level = level

    def compress(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the compressed frames of `chunks` in order, then the seek table. Blocking: call in a thread."""
        parameters = zstandard.ZstdCompressionParameters.from_level(
            self._level, window_log=_WINDOW_LOG, write_checksum=True
        )
        context = zstandard.ZstdCompressor(compression_params=parameters)
        frames: list[Frame] = []
        pieces = _pieces(chunks)
        piece = next(pieces, b"")
        while piece or not frames:  # an empty stream is one empty frame: plain `zstd -d` refuses a file without any
            frame = context.compressobj()
            plain = compressed = 0
            while piece and plain < FRAME_SIZE:
                if data := frame.compress(piece):
                    compressed += len(data)
                    yield data
                plain += len(piece)
                piece = next(pieces, b"")
            data = frame.flush()
            frames.append(Frame(compressed + len(data), plain))
            yield data
        yield seek_table(frames)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """`chunks` without empty ones, cut where a frame ends."""
    left = FRAME_SIZE
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            piece = view[:left]
            view = view[len(piece) :]
            left = left - len(piece) or FRAME_SIZE
            yield piece


def decompress(source: SourceReader) -> Iterator[bytes]:
    """Yield plain chunks of at most 1 MiB, however much a few bytes expand to. Blocking: call in a thread.

    zstd accepts a stream that is cut at a frame's border, so the caller must compare length and hash.
    Raises ArchiveDamaged for anything that is not zstd or fails its checksum.
    """
    reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
        cast("IO[bytes]", source), read_size=1 << 17, read_across_frames=True
    )
    while True:
        try:
            chunk = reader.read(CHUNK)
        except zstandard.ZstdError as error:
            raise ArchiveDamaged(f"The archive cannot be decompressed: {error}") from error
        if not chunk:
            return
        yield chunk
