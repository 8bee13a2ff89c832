"""Foreign archives are read as an import reads them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.archives.streams import CHUNK, ByteStream
from app.external.inventory import Inventory
from app.external.limits import Limits
from app.external.parser import ExternalBackupParser

Reading = Callable[..., Awaitable[Inventory]]
SMALL = Limits(bytes=64 << 20, members=10_000, ratio=200, depth=3, seconds=30)


async def streamed(path: Path) -> ByteStream:
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data


@asynccontextmanager
async def parsed(folder: Path, source: ByteStream, limits: Limits = SMALL) -> AsyncGenerator[ExternalBackupParser]:
    content = b"".join([chunk async for chunk in source])
    parser = ExternalBackupParser(folder, limits)
    try:
        await asyncio.to_thread(parser.stage, io.BytesIO(content))
        yield parser
    finally:
        parser.close()


@pytest.fixture
def read(tmp_path: Path) -> Reading:
    async def reading(archive: Path, format: str | None = None, domain: str | None = None) -> Inventory:
        async with parsed(tmp_path / f"staging-{archive.name}", streamed(archive)) as parser:
            return parser.read(format, domain)

    return reading
