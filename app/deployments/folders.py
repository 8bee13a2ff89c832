"""Folders of this machine through descriptors: no link is ever followed, whatever a path means by then."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from app.deployments.descriptors import entry_name, held, is_ours, open_below, opened, opened_at
from app.deployments.tree import STAGING_PREFIX, Entry, SwapPlan, TreeStatus
from app.errors import NoSpace, StagingLost, SwapImpossible, TargetMissing

NO_REPLACE, EXCHANGE = 1, 2
_IMMUTABLE = 0x10 | 0x20  # STATX_ATTR_IMMUTABLE, STATX_ATTR_APPEND: statx(2)
_AT_SYMLINK_NOFOLLOW = 0x100
_BASIC = 0x7FF  # STATX_BASIC_STATS
_libc = ctypes.CDLL(None, use_errno=True)
_statx = _libc.statx
_statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
T = TypeVar("T")
Parts = tuple[bytes, ...]
Visit = tuple[Parts, int, list[os.DirEntry[str]]]
TYPES = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s", stat.S_IFCHR: "c", stat.S_IFBLK: "b",
}  # fmt: skip


async def in_thread(path: str, work: Callable[[], T]) -> T:
    """Run to the end even when cancelled meanwhile: nobody may act on a folder that a thread still changes.

    Raises NoSpace, TargetMissing, SwapImpossible for the system's errors.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # nobody waits for it any more
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space left on the file system of {path}; free some and try again") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and not isinstance(error, EntryError):
            raise TargetMissing(
                f"{path}: {error.strerror}; it must be a folder whose path holds no symbolic link"
            ) from error
        where = f"{path}/{error.entry}" if isinstance(error, EntryError) else path
        raise SwapImpossible(f"{where}: {error.strerror}") from error


class EntryError(OSError):
    """What the system says of one entry of a folder."""

    def __init__(self, error: OSError, entry: bytes) -> None:
        super().__init__(error.errno, error.strerror)
        self.entry = entry.decode("utf-8", "backslashreplace")


@contextmanager
def of_entry(name: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EntryError(error, name) from error


@contextmanager
def staging(plan: SwapPlan) -> Iterator[int]:
    """The staging folder, which must be the one that was made and ours alone: its parent may be its tenant's.

    Raises StagingLost.
    """
    with opened(plan.parent) as parent:
        try:
            descriptor = open_below(parent, [plan.staging_name])
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise StagingLost(f"{plan.staging_path} is no folder any more: somebody has replaced it") from error
            raise
        with held(descriptor):
            if os.fstat(descriptor).st_ino != plan.staging or not is_ours(descriptor, parent):
                raise StagingLost(
                    f"{plan.staging_path} is not the folder that the restore made: somebody has replaced it"
                )
            yield descriptor


def kind(name: bytes | str, folder: int) -> str | None:
    try:
        return TYPES[stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)]
    except FileNotFoundError:
        return None


def walk(
    root: int, start: Parts = (), *, lenient: bool = False
) -> Iterator[tuple[Parts, int, list[os.DirEntry[str]]]]:
    """(path, descriptor, entries) of every folder, parents first; flat in depth and in descriptors.

    `lenient`: folders that vanish meanwhile, or become something else, are passed over.
    """
    pending: list[Parts] = [start]
    while pending:
        parts = pending.pop()
        try:
            with opened_at(root, parts) as folder:
                with os.scandir(folder) as entries:
                    found = [entry for entry in entries if parts or not entry.name.startswith(STAGING_PREFIX)]
                yield parts, folder, found
                pending.extend(
                    (*parts, os.fsencode(entry.name)) for entry in found if entry.is_dir(follow_symlinks=False)
                )
        except OSError as error:
            if not lenient or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise


def rename(source: int, target: int, name: bytes, flags: int = NO_REPLACE, target_name: bytes | None = None) -> None:
    """renameat2(2). NO_REPLACE: FileExistsError when the name is taken; EXCHANGE: both swap in one step."""
    name, other = entry_name(name), entry_name(name if target_name is None else target_name)
    if _libc.renameat2(source, name, target, other, flags) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS) and flags == NO_REPLACE:  # not on this file system
        if kind(other, target) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(name, other, src_dir_fd=source, dst_dir_fd=target)
        return
    raise OSError(number, os.strerror(number))


def sync_file_system(folder: int) -> None:
    if _libc.syncfs(folder) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Statx:
    """statx(2): what stat(2) tells of an entry, and what only this call tells, at once. For one thread."""

    _FORMAT = struct.Struct("=8xQ4xIIH10xQ64xqI")  # attributes, uid, gid, mode, size, mtime

    def __init__(self) -> None:
        self._answer = ctypes.create_string_buffer(256)

    def entry(self, name: bytes, folder: int, path: bytes) -> Entry | None:
        """None when there is none."""
        if _statx(folder, name, _AT_SYMLINK_NOFOLLOW, _BASIC, self._answer) != 0:
            number = ctypes.get_errno()
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number), name)
        attributes, uid, gid, mode, size, seconds, nanoseconds = self._FORMAT.unpack_from(self._answer)
        type = TYPES[mode & 0o170000]
        fixed = bool(attributes & _IMMUTABLE)
        return Entry(path, type, size if type == "f" else 0, uid, gid, seconds + nanoseconds / 1e9, fixed)


def is_immutable(name: bytes | str, folder: int) -> bool:
    """Whether the file system lets nobody rename or remove an entry; False where it cannot tell."""
    try:
        found = Statx().entry(os.fsencode(name), folder, b"")
    except OSError:
        return False
    return found is not None and found.fixed


def copy_status(source: int, target: int) -> None:
    """Owner, permissions, attributes and times of a folder, as far as we may."""
    status = os.fstat(source)
    with suppress(PermissionError):
        os.fchown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        with suppress(OSError):
            os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def place_folder(ours: int, model: int, into: int, name: bytes) -> bool:
    """A folder that is as `model`, made in staging and moved to where others may rename: none of theirs gets its
    owner. False when the name is taken."""
    temporary = b"folder"
    with suppress(FileNotFoundError):
        os.rmdir(temporary, dir_fd=ours)
    os.mkdir(temporary, 0o700, dir_fd=ours)
    with opened_at(ours, [temporary]) as made:
        copy_status(model, made)
    try:
        rename(ours, into, temporary, NO_REPLACE, name)
    except FileExistsError:
        os.rmdir(temporary, dir_fd=ours)
        return False
    return True


def mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return table.read()


def status(path: str) -> TreeStatus:
    with opened(path) as folder, opened(path.rstrip("/").rpartition("/")[0]) as parent:
        found, above = os.fstat(folder), os.fstat(parent)
        space = os.fstatvfs(folder)
        mounted = found.st_dev != above.st_dev or path in _mount_points()
        return TreeStatus(found.st_uid, found.st_gid, mounted, space.f_bavail * space.f_frsize)


def _mount_points() -> set[str]:
    """Bind mounts keep the device number, so the mount table is asked as well (proc_pid_mountinfo(5))."""
    return {line.split(" ")[4].encode().decode("unicode_escape") for line in mountinfo().splitlines()}
