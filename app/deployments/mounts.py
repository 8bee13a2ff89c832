"""Which file systems are mounted below a folder. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from app.errors import TargetMissing, ToolMissing

if TYPE_CHECKING:
    from app.deployments.base import Deployment

_MOST = 64 << 20
_MOUNT_POINT = 4
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mounts_below(mountinfo: str, path: str) -> list[str]:
    """The mount points below `path` in the text of a /proc/…/mountinfo, sorted, each once; `path` itself is none.

    `mountinfo` as decoded with surrogateescape; so are the names that come back, whatever bytes they hold. A line
    that is none of mountinfo's is passed over.
    """
    points = []
    for line in mountinfo.encode("utf-8", "surrogateescape").split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > _MOUNT_POINT:
            points.append(_ESCAPED.sub(lambda code: bytes([int(code[1], 8) & 0xFF]), fields[_MOUNT_POINT]))
    return below(points, path)


def below(points: Iterable[bytes], path: str) -> list[str]:
    """Those of absolute paths that are below `path`, sorted, each once."""
    parts = [part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b".")]
    prefix = b"/" + b"".join(part + b"/" for part in parts)
    found = {point for point in points if point.startswith(prefix) and point != prefix}
    return [point.decode("utf-8", "surrogateescape") for point in sorted(found)]


async def mounts_in(deployment: Deployment, folder: str) -> list[str] | None:
    """The mount points below `folder` where a site runs, relative to it; None when its table cannot be read."""
    table = bytearray()
    argv = ["cat", "/proc/self/mountinfo"]
    try:
        async with aclosing(deployment.stream(argv, accept=range(256))) as stream:
            async for chunk in stream:
                table += chunk
                if len(table) > _MOST:
                    return None
    except (ToolMissing, TargetMissing):
        return None
    if not table:
        return None
    return relative(mounts_below(table.decode("utf-8", "surrogateescape"), folder), folder)


def relative(points: Iterable[str], folder: str) -> list[str]:
    top = "/" + "".join(f"{part}/" for part in folder.split("/") if part not in ("", "."))
    return [point.removeprefix(top) for point in points]
