"""What pg_dump writes and pg_restore prints, as it passes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from app.archives.streams import ByteStream
from app.errors import DumpIncomplete, LoadFailed

_END_OF_DATA = bytes(5)
_HEAD = 16 << 20
#: pg_restore may print so many times an archive's size, beside what is free: dumps of others are compressed.
_EXPANDS, _EXPANDS_FREE = 400, 1 << 30
_STALLED_SECONDS = 900


async def bounded(printed: ByteStream, size: int) -> ByteStream:
    """What pg_restore makes of an archive of `size` bytes: not more and more, and never a pause that does not end.
    Closes `printed`. Raises LoadFailed."""
    seen, most = 0, _EXPANDS_FREE + _EXPANDS * size
    async with aclosing(printed):
        while True:
            try:
                async with asyncio.timeout(_STALLED_SECONDS):
                    chunk = await anext(printed, None)
            except TimeoutError as error:
                raise LoadFailed(f"pg_restore printed nothing for {_STALLED_SECONDS // 60} minutes") from error
            if chunk is None:
                return
            seen += len(chunk)
            if seen > most:
                raise LoadFailed(f"The archive expands to more than {most >> 20} MiB of SQL: it looks like a bomb")
            yield chunk


class DumpWatch:
    """Looks at a custom-format archive as it passes: its magic, its data entries, its last data block's end."""

    def __init__(self, tables: int) -> None:
        self._tables = tables
        self._seen = 0
        self._start = b""
        self._tail = b""
        self._data = False

    async def watch(self, stream: ByteStream) -> ByteStream:
        async with aclosing(stream):
            async for chunk in stream:
                if not self._seen:
                    self._start = chunk[:5]
                if not self._data and self._seen < _HEAD:
                    self._data = b"TABLE DATA" in self._tail + chunk
                self._seen += len(chunk)
                self._tail = (self._tail + chunk)[-16:]
                yield chunk

    def verify(self) -> None:
        if self._start != b"PGDMP":
            raise DumpIncomplete("pg_dump wrote no archive")
        if self._tables and not (self._data and self._tail.endswith(_END_OF_DATA)):
            raise DumpIncomplete(f"The database has {self._tables} tables, the dump holds none or was cut")
