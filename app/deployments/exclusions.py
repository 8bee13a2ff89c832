"""What a dump's exclusions leave out, found where the site runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from app.archives.streams import ByteStream
from app.deployments.tree import STAGING_PREFIX
from app.errors import ArchiveDamaged, SwapImpossible

if TYPE_CHECKING:
    from app.deployments.base import Deployment

_MOST = 1_000_000


async def find_matching(deployment: Deployment, path: str, patterns: Sequence[str]) -> list[bytes]:
    """The topmost entries below `path` that a pattern matches. find's -path and GNU tar's --exclude both are
    fnmatch(3) with wildcards that match slashes; one that begins with / is anchored at the root, others match at any
    depth. Raises SwapImpossible when a million match."""
    if not patterns:
        return []
    tests: list[str] = []
    for pattern in patterns:
        text = pattern.rstrip("/")
        tests += ["-o", "-path", f".{text}" if text.startswith("/") else f"*/{text}"]
    argv = ["find", ".", "-path", f"./{STAGING_PREFIX}*", "-prune", "-o", "(", *tests[1:], ")", "-print0", "-prune"]
    found = []
    # 1: something vanished while it was looked at
    async with aclosing(split(deployment.stream(argv, cwd=path, accept=(0, 1)), b"\0")) as names:
        async for name in names:
            found.append(name.removeprefix(b"./"))
            if len(found) > _MOST:
                raise SwapImpossible(f"More than {_MOST} entries of {path} match the backup's exclusions")
    return found


async def split(stream: ByteStream, separator: bytes) -> ByteStream:
    """Records that each end with `separator`. Raises ArchiveDamaged when the last one does not."""
    rest = b""
    async with aclosing(stream):
        async for chunk in stream:
            *whole, rest = (rest + chunk).split(separator)
            for record in whole:
                yield record
    if rest:
        raise ArchiveDamaged("A listing ended in the middle of a record")
