"""Folders of this machine by descriptor: opened without following a link, whoever renames what meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from app.errors import StagingLost

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: openat2(2): the call's number on every architecture but alpha, and what it refuses on the way.
_OPENAT2 = 437
_NO_MAGIC_LINKS, _NO_LINKS, _BENEATH = 0x02, 0x04, 0x08
#: There is no such call (gVisor, Linux before 5.6), what filters calls does not know it, or it may not tell.
_ASK_OTHERWISE = {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EAGAIN, errno.EINTR, errno.ENAMETOOLONG}
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def entry_name(name: bytes | str) -> bytes:
    """The name of one entry of a folder, as bytes, from a listing or a journal. Raises OSError when it is none."""
    found = os.fsencode(name)
    if found in (b"", b".", b"..") or b"/" in found or b"\0" in found:
        raise OSError(errno.EINVAL, "not the name of an entry", found)
    return found


def open_below(folder: int, parts: Sequence[bytes | str]) -> int:
    """A descriptor of the folder at `parts` below another one; no link is followed. Raises OSError."""
    names = [entry_name(part) for part in parts]
    if not names:
        return os.dup(folder)
    found = _at_once(folder, b"/".join(names))
    return _one_by_one(folder, names) if found is None else found


def _at_once(folder: int, path: bytes) -> int | None:
    """By one openat2(2); None where it must be done otherwise."""
    how = _How(FOLDER, 0, _BENEATH | _NO_LINKS | _NO_MAGIC_LINKS)
    found = int(_libc.syscall(_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how)))
    if found >= 0:
        return found
    number = ctypes.get_errno()
    if number in _ASK_OTHERWISE:
        return None
    number = errno.ENOTDIR if number == errno.ELOOP else number  # as open(2) says of each part
    raise OSError(number, os.strerror(number), path)


def _one_by_one(folder: int, names: Sequence[bytes]) -> int:
    descriptor = os.dup(folder)
    for name in names:
        try:
            child = os.open(name, FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = child
    return descriptor


def open_folder(path: str) -> int:
    """A descriptor of the folder at an absolute path, with no link followed in any component.

    Raises OSError as the system does; ELOOP and ENOTDIR where a link or a file stands in the way, EINVAL for `..`.
    """
    if not path.startswith("/"):
        raise OSError(errno.EINVAL, "not an absolute path", path)
    top = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_below(top, [part for part in path.split("/") if part not in ("", ".")])
    finally:
        os.close(top)


@contextmanager
def held(descriptor: int) -> Iterator[int]:
    """A descriptor, closed at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def opened(path: str) -> AbstractContextManager[int]:
    return held(open_folder(path or "/"))


def opened_at(folder: int, parts: Sequence[bytes | str]) -> AbstractContextManager[int]:
    return held(open_below(folder, parts))


def is_ours(folder: int, above: int) -> bool:
    """Whether nobody but us can reach into a folder, and nothing is mounted on it.

    Its device is compared with that of the folder it lies in, and is not journalled: on btrfs, NFS and overlayfs
    another start gives another number.
    """
    status = os.fstat(folder)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077 and status.st_dev == os.fstat(above).st_dev


@contextmanager
def made_folder(above: int, name: str) -> Iterator[int]:
    """Make a folder that is ours alone, and open it. Raises StagingLost when somebody puts another one there."""
    os.mkdir(entry_name(name), 0o700, dir_fd=above)
    try:
        descriptor = open_below(above, [name])
    except OSError as error:
        raise StagingLost(f"{name} was replaced by somebody while it was made ({error.strerror})") from error
    with held(descriptor):
        if not is_ours(descriptor, above) or os.listdir(descriptor):
            raise StagingLost(f"{name} was replaced by somebody while it was made")
        yield descriptor
