"""Which file systems are mounted below a folder. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations

import re

_MOUNT_POINT = 4
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mounts_below(mountinfo: str, path: str) -> list[str]:
    """The mount points below `path` in the text of a /proc/…/mountinfo, sorted, each once; `path` itself is none.

    `mountinfo` as decoded with surrogateescape; so are the names that come back, whatever bytes they hold. A line
    that is none of mountinfo's is passed over.
    """
    top = b"/" + b"/".join(
        part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b".")
    )
    below = top.rstrip(b"/") + b"/"
    found = set()
    for line in mountinfo.encode("utf-8", "surrogateescape").split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > _MOUNT_POINT:
            point = _ESCAPED.sub(lambda code: bytes([int(code[1], 8) & 0xFF]), fields[_MOUNT_POINT])
            if point.startswith(below) and point != below:
                found.add(point)
    return [point.decode("utf-8", "surrogateescape") for point in sorted(found)]
