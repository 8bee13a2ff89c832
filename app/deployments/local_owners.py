"""Entries of a folder of this machine that are given to other users. Blocking.

The folder may be its tenant's: an entry is looked at and changed through one descriptor, so that what was looked at
is what is given away, and a file that never was theirs (by a hard link, or moved there) is not.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from app.deployments.descriptors import entry_name, held, opened, opened_at
from app.deployments.tree import User
from app.errors import SwapImpossible

_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_MODE = 0o755
_libc = ctypes.CDLL(None, use_errno=True)


def set_owners(root: int, owners: Sequence[tuple[bytes, int, int]], extracted: User) -> list[bytes]:
    """See SiteTree.set_owners; `root`: a descriptor."""
    refused = []
    for path, uid, gid in owners:
        *folders, last = path.split(b"/")
        with opened_at(root, folders) as folder, held(os.open(entry_name(last), _ENTRY, dir_fd=folder)) as entry:
            status = os.fstat(entry)
            if status.st_uid not in (extracted.uid, uid):
                refused.append(path)
                continue
            _chown(entry, uid, gid)
            # chown clears set-id bits: a program with another user's rights is no site's, a folder's group stays.
            if not stat.S_ISLNK(status.st_mode):
                Path(f"/proc/self/fd/{entry}").chmod(stat.S_IMODE(status.st_mode) & 0o3777)
    return refused


def _chown(descriptor: int, uid: int, gid: int) -> None:
    """fchown(2) refuses a descriptor that only stands for a name, as a link's is."""
    if _libc.fchownat(descriptor, b"", uid, gid, _AT_EMPTY_PATH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def make_folder(path: str, owner: User | None) -> None:
    """See SiteTree.make_folder; `owner`: None where nothing can be given away."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    with opened("/") as top, ExitStack() as stack:
        folder = top
        for depth, part in enumerate(parts, 1):
            try:
                folder = stack.enter_context(opened_at(folder, [part]))
                continue
            except FileNotFoundError:
                os.mkdir(part, _MODE, dir_fd=folder)
            folder = stack.enter_context(opened_at(folder, [part]))
            # Whoever owns the folder above may have put another one there: an empty one of ours is as good.
            if os.fstat(folder).st_uid != os.geteuid() or os.listdir(folder):
                raise SwapImpossible(f"/{'/'.join(parts[:depth])} was replaced by somebody while it was made")
            os.fchmod(folder, _MODE)
            if owner is not None and depth == len(parts):
                os.fchown(folder, owner.uid, owner.gid)
