"""Objects in this process's memory: for tests and as the shortest example of the contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime

from app.errors import ObjectNotFound, SizeMismatch
from app.storage.base import ObjectInfo, StorageDriver, is_key, validate_key, validate_prefix

CHUNK = 1 << 20


class MemoryDriver(StorageDriver):
    verification = "read_back"

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        validate_key(key)
        content = b"".join([chunk async for chunk in stream])
        if size is not None and len(content) != size:
            raise SizeMismatch(f"Writing {key}: the source gave {len(content)} bytes instead of {size}")
        self._objects[key] = (content, datetime.now(UTC))
        return await self.stat(key)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        content = self._content(key)[0]
        for start in range(offset, len(content), CHUNK):
            yield content[start : start + CHUNK]

    async def stat(self, key: str) -> ObjectInfo:
        content, modified_at = self._content(key)
        return ObjectInfo(key, len(content), modified_at)

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        validate_prefix(prefix)
        for key in [key for key in self._objects if key.startswith(prefix)]:
            if is_key(key):
                yield await self.stat(key)

    async def delete(self, key: str) -> None:
        self._objects.pop(validate_key(key), None)

    def _content(self, key: str) -> tuple[bytes, datetime]:
        try:
            return self._objects[validate_key(key)]
        except KeyError:
            raise ObjectNotFound(f"{key}: there is no such object") from None
