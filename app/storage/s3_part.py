"""What one request to an S3 store carries."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

_STEP = 1 << 18


class Part:
    """The bytes of one part, as the chunks they came in: nothing is joined or copied to send it.

    The SDK takes it for a file, aiohttp for an asynchronous iterable. `release` lets the bytes go at once: the SDK's
    requests live in reference cycles, and would keep each part until the collector comes by.
    """

    def __init__(self, chunks: list[memoryview]) -> None:
        self._chunks = chunks
        self.size = sum(len(chunk) for chunk in chunks)

    def __len__(self) -> int:
        return self.size

    def read(self) -> bytes:
        return b"".join(self._chunks)

    def seek(self, offset: int, whence: int = 0) -> None:
        """The SDK goes back to the start before it sends a part again: each iteration starts there anyway."""

    async def __aiter__(self) -> AsyncGenerator[memoryview, None]:
        for chunk in self._chunks:
            for start in range(0, len(chunk), _STEP):
                yield chunk[start : start + _STEP]

    def md5(self) -> str:
        """Content-MD5, RFC 1864."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks:
            digest.update(chunk)
        return base64.b64encode(digest.digest()).decode()

    def release(self) -> None:
        self._chunks = []


async def in_parts(
    stream: AsyncIterator[bytes], size: int, *, grows_every: int | None = None
) -> AsyncGenerator[Part, None]:
    """`stream` in parts of `size` bytes; twice as large after each `grows_every` parts."""
    gathered: list[memoryview] = []
    number, left = 0, size
    async for chunk in stream:
        view = memoryview(chunk)
        while view:
            gathered.append(view[:left])
            left -= len(gathered[-1])
            view = view[len(gathered[-1]) :]
            if not left:
                yield Part(gathered)
                gathered = []
                number += 1
                left = size << (number // grows_every) if grows_every else size
    if gathered:
        yield Part(gathered)
