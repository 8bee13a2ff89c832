"""File operations on a site's folder of this machine: directory handles only, no link is ever followed."""

from __future__ import annotations

import asyncio
import base64
import ctypes
import errno
import json
import os
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from app.deployments.base import (
    STAGING_PREFIX,
    Entry,
    MergeRules,
    SiteTree,
    SwapMode,
    SwapPlan,
    SwapReport,
    TreeStatus,
    User,
)
from app.deployments.local_merge import merge
from app.deployments.process import open_folder
from app.errors import NoSpace, SwapImpossible, TargetMissing

if TYPE_CHECKING:
    from app.deployments.base import Deployment

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_EXCHANGE = 2
_BATCH = 2000
_JOURNAL = "journal.json"
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")
Parts = tuple[bytes, ...]


class LocalTree(SiteTree):
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def status(self, path: str) -> TreeStatus:
        return await _in_thread(path, lambda: _status(path))

    async def swap_mode(self, path: str) -> SwapMode:
        return await _in_thread(path, lambda: _swap_mode(path))

    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        await self.discard(plan)
        await _in_thread(plan.target, lambda: _prepare(plan, owner, self._deployment.privileged))
        return f"{_staging_parent(plan)}/{plan.staging_name}/new"

    async def inventory(self, path: str) -> AsyncGenerator[list[Entry], None]:
        walk = _inventory(path)
        while True:
            batch = await _in_thread(path, lambda: next(walk, None))
            if batch is None:
                return
            yield batch

    async def sync(self, path: str) -> None:
        await _in_thread(path, lambda: _sync(path))

    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]]) -> None:
        await _in_thread(path, lambda: _set_owners(path, owners))

    async def swap(self, plan: SwapPlan, confirm: Callable[[], Awaitable[None]]) -> SwapReport:
        report = SwapReport()
        started = time.time_ns()
        tree = "new"
        if not plan.clear_existing:
            tree = "merged"
            await _in_thread(plan.target, lambda: _merge(plan))
        await _in_thread(plan.target, lambda: _journal(plan, tree))
        await confirm()
        await _in_thread(plan.target, lambda: _swap(plan, tree))
        if not plan.clear_existing:
            report.carried_over = await _in_thread(plan.target, lambda: _carry_over(plan, tree, started))
        return report

    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        return await _in_thread(plan.target, lambda: _add_missing(plan, rules))

    async def finish(self, plan: SwapPlan) -> bool:
        return await _in_thread(plan.target, lambda: _finish(plan))

    async def discard(self, plan: SwapPlan) -> None:
        parent = _staging_parent(plan)
        try:
            await self.status(f"{parent}/{plan.staging_name}")
        except TargetMissing:
            return
        # rm copes with any depth and races with nobody: it runs inside a folder only we can enter.
        await self._deployment.run(["rm", "-rf", "--", f"./{plan.staging_name}"], cwd=parent)


async def _in_thread(path: str, work: Callable[[], T]) -> T:
    """Run to the end even when cancelled meanwhile: nobody may act on a folder that a thread still changes."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space left on the file system of {path}; free some and try again") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise TargetMissing(
                f"{path}: {error.strerror}; it must be a folder whose path holds no symbolic link"
            ) from error
        raise SwapImpossible(f"{path}: {error.strerror}") from error


def _staging_parent(plan: SwapPlan) -> str:
    """Beside the target where it is swapped whole; inside it where only its entries can be moved."""
    return plan.target.rstrip("/").rpartition("/")[0] if plan.mode == "exchange" else plan.target.rstrip("/")


def _target_name(plan: SwapPlan) -> str:
    return plan.target.rstrip("/").rpartition("/")[2]


@contextmanager
def _open(path: str) -> Iterator[int]:
    descriptor = open_folder(path or "/")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _open_at(folder: int, parts: Sequence[bytes | str]) -> Iterator[int]:
    descriptor = os.dup(folder)
    try:
        for part in parts:
            child = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = child
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _staging(plan: SwapPlan) -> Iterator[int]:
    with _open(f"{_staging_parent(plan)}/{plan.staging_name}") as descriptor:
        yield descriptor


def _status(path: str) -> TreeStatus:
    with _open(path) as folder, _open(path.rstrip("/").rpartition("/")[0]) as parent:
        found, above = os.fstat(folder), os.fstat(parent)
        space = os.fstatvfs(folder)
        mounted = found.st_dev != above.st_dev or path in _mount_points()
        return TreeStatus(found.st_uid, found.st_gid, mounted, space.f_bavail * space.f_frsize)


def _mount_points() -> set[str]:
    """Bind mounts keep the device number, so the mount table is asked as well (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return {line.split(" ")[4].encode().decode("unicode_escape") for line in table}


def _swap_mode(path: str) -> SwapMode:
    if _status(path).mount_point:
        return "entries"
    with _open(path.rstrip("/").rpartition("/")[0]) as parent:
        probes = [f"{STAGING_PREFIX}probe-{os.getpid()}-{n}-{time.monotonic_ns()}" for n in (1, 2)]
        try:
            for probe in probes:
                os.mkdir(probe, 0o700, dir_fd=parent)
            _exchange(parent, probes[0], parent, probes[1])
        except OSError:
            return "entries"
        finally:
            for probe in probes:
                with suppress(OSError):
                    os.rmdir(probe, dir_fd=parent)
    return "exchange"


def _exchange(folder_a: int, name_a: str, folder_b: int, name_b: str) -> None:
    """renameat2(2) with RENAME_EXCHANGE: both names swap in one step, or nothing happens."""
    done = _libc.renameat2(folder_a, os.fsencode(name_a), folder_b, os.fsencode(name_b), _RENAME_EXCHANGE)
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prepare(plan: SwapPlan, owner: User, privileged: bool) -> None:
    with _open(_staging_parent(plan)) as parent:
        os.mkdir(plan.staging_name, 0o700, dir_fd=parent)
        with _open_at(parent, [plan.staging_name]) as staging:
            os.mkdir("new", 0o700, dir_fd=staging)
            if privileged:
                os.chown("new", owner.uid, owner.gid, dir_fd=staging, follow_symlinks=False)


def _walk(root: int) -> Iterator[tuple[Parts, int, list[os.DirEntry[str]]]]:
    """(path, descriptor, entries) of every folder, parents first; flat in depth and in descriptors."""
    pending: list[Parts] = [()]
    while pending:
        parts = pending.pop()
        with _open_at(root, parts) as folder:
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if parts or not entry.name.startswith(STAGING_PREFIX)]
            yield parts, folder, found
            pending.extend(
                (*parts, os.fsencode(entry.name)) for entry in found if entry.is_dir(follow_symlinks=False)
            )


_TYPES = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s", stat.S_IFCHR: "c", stat.S_IFBLK: "b",
}  # fmt: skip


def _inventory(path: str) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    with _open(path) as root:
        for parts, _, entries in _walk(root):
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                name = b"/".join((*parts, os.fsencode(entry.name)))
                kind = _TYPES[stat.S_IFMT(status.st_mode)]
                size = status.st_size if kind == "f" else 0
                batch.append(Entry(name, kind, size, status.st_uid, status.st_gid))
            if len(batch) >= _BATCH:
                yield batch
                batch = []
    yield batch


def _sync(path: str) -> None:
    with _open(path) as folder:
        _libc.syncfs(folder)


def _set_owners(path: str, owners: Sequence[tuple[bytes, int, int]]) -> None:
    with _open(path) as root:
        for name, uid, gid in owners:
            *folders, last = name.split(b"/")
            with _open_at(root, folders) as folder:
                mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                os.chown(last, uid, gid, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISLNK(mode):  # chown clears set-uid and set-gid; they stay cleared for strangers
                    os.chmod(last, stat.S_IMODE(mode) & 0o1777, dir_fd=folder)


def _merge(plan: SwapPlan) -> None:
    """Make `merged`: hard links of the live tree with the restored entries renamed in."""
    with _staging(plan) as staging, _open(plan.target) as live, _open_at(staging, ["new"]) as new:
        os.mkdir("merged", 0o700, dir_fd=staging)
        with _open_at(staging, ["merged"]) as merged:
            folders = [_clone_folder(live, merged, parts, folder, entries) for parts, folder, entries in _walk(live)]
            for parts in reversed(folders):
                _copy_folder_status(live, merged, parts)
            restored = []
            for parts, folder, entries in _walk(new):
                restored.append(parts)
                _overlay(merged, parts, folder, entries)
            for parts in reversed(restored):
                _copy_folder_status(new, merged, parts)


def _clone_folder(live: int, merged: int, parts: Parts, folder: int, entries: list[os.DirEntry[str]]) -> Parts:
    with _open_at(merged, parts) as clone:
        for entry in entries:
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                os.mkdir(name, 0o700, dir_fd=clone)
            else:
                os.link(name, name, src_dir_fd=folder, dst_dir_fd=clone, follow_symlinks=False)
    return parts


def _overlay(merged: int, parts: Parts, folder: int, entries: list[os.DirEntry[str]]) -> None:
    with _open_at(merged, parts) as target:
        for entry in entries:
            name = os.fsencode(entry.name)
            present = _kind(name, target)
            if entry.is_dir(follow_symlinks=False):
                if present == "d":
                    continue
                if present is not None:
                    os.unlink(name, dir_fd=target)
                os.mkdir(name, 0o700, dir_fd=target)
                continue
            if present == "d":
                _remove_below(target, name)
            # A hard link, so that `new` stays whole and its own hard links stay linked.
            if present is not None and present != "d":
                os.unlink(name, dir_fd=target)
            os.link(name, name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)


def _remove_below(folder: int, name: bytes) -> None:
    with _open_at(folder, [name]) as root:
        visited = []
        for parts, inner, entries in _walk(root):
            visited.append(parts)
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(os.fsencode(entry.name), dir_fd=inner)
        for parts in reversed(visited[1:]):
            with _open_at(root, parts[:-1]) as above:
                os.rmdir(parts[-1], dir_fd=above)
    os.rmdir(name, dir_fd=folder)


def _add_missing(plan: SwapPlan, rules: MergeRules) -> int:
    with _staging(plan) as staging, _open_at(staging, ["new"]) as new, _open(plan.target) as live:
        _libc.syncfs(new)
        return merge(new, live, rules, _copy_folder_status, STAGING_PREFIX)


def _kind(name: bytes, folder: int) -> str | None:
    try:
        return _TYPES[stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)]
    except FileNotFoundError:
        return None


def _copy_folder_status(source: int, target: int, parts: Parts) -> None:
    with _open_at(source, parts) as original, _open_at(target, parts) as copy:
        status = os.fstat(original)
        with suppress(PermissionError):
            os.fchown(copy, status.st_uid, status.st_gid)
        for name in os.listxattr(original):
            with suppress(OSError):
                os.setxattr(copy, name, os.getxattr(original, name))
        os.fchmod(copy, stat.S_IMODE(status.st_mode))
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _journal(plan: SwapPlan, tree: str) -> None:
    """Record what the swap will do, durably, before the target is touched."""
    with _staging(plan) as staging, _open(plan.target) as target:
        with _open_at(staging, [tree]) as new:
            _libc.syncfs(new)
            record = {
                "tree": tree,
                "inode": os.fstat(new).st_ino,
                "new": [_text(name) for name in os.listdir(new)],
                "old": [_text(name) for name in os.listdir(target) if not name.startswith(STAGING_PREFIX)],
            }
        descriptor = os.open(_JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=staging)
        with os.fdopen(descriptor, "w") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.fsync(staging)


def _text(name: str) -> str:
    return base64.b64encode(os.fsencode(name)).decode()


def _swap(plan: SwapPlan, tree: str) -> None:
    if plan.mode == "exchange":
        with _open(_staging_parent(plan)) as parent, _staging(plan) as staging:
            _exchange(parent, _target_name(plan), staging, tree)
            os.fsync(parent)
            os.fsync(staging)
        return
    _swap_entries(plan, _read_journal(plan) or {})


def _read_journal(plan: SwapPlan) -> dict[str, Any] | None:
    try:
        with _staging(plan) as staging:
            descriptor = os.open(_JOURNAL, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=staging)
            with os.fdopen(descriptor) as file:
                record: dict[str, Any] = json.load(file)
                return record
    except (FileNotFoundError, ValueError):
        return None


def _swap_entries(plan: SwapPlan, journal: dict[str, Any]) -> None:
    """Move the old entries out and the new ones in. Each step can be repeated: a restart goes on."""
    old_names = [base64.b64decode(text) for text in journal["old"]]
    new_names = [base64.b64decode(text) for text in journal["new"]]
    with _staging(plan) as staging, _open(plan.target) as target:
        with suppress(FileExistsError):
            os.mkdir("old", 0o700, dir_fd=staging)
        with _open_at(staging, ["old"]) as old, _open_at(staging, [journal["tree"]]) as new:
            for name in old_names:
                moved = _kind(name, old) is not None
                if not moved and _kind(name, target) is not None:
                    os.rename(name, name, src_dir_fd=target, dst_dir_fd=old)
            for name in new_names:
                if _kind(name, new) is not None:
                    os.rename(name, name, src_dir_fd=new, dst_dir_fd=target)
            status = os.fstat(new)
            with suppress(PermissionError):
                os.fchmod(target, stat.S_IMODE(status.st_mode))
            os.fsync(target)
        os.unlink(_JOURNAL, dir_fd=staging)
        descriptor = os.open("done", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=staging)
        os.close(descriptor)
        os.fsync(staging)


def _finish(plan: SwapPlan) -> bool:
    try:
        with _staging(plan) as staging:
            done = _kind(b"done", staging) is not None
    except OSError:
        return False
    journal = _read_journal(plan)
    if plan.mode == "entries":
        if done:
            return True
        if journal is None or not _entries_begun(plan):
            return False
        _swap_entries(plan, journal)
        return True
    if journal is None:
        return False
    with _open(plan.target) as target:
        return os.fstat(target).st_ino == int(journal["inode"])


def _entries_begun(plan: SwapPlan) -> bool:
    """The folder `old` is the first thing a swap of entries makes."""
    with _staging(plan) as staging:
        return _kind(b"old", staging) is not None


def _carry_over(plan: SwapPlan, tree: str, since: int) -> int:
    """Move files that appeared in the old tree after it was cloned into the new one."""
    count = 0
    old_name = tree if plan.mode == "exchange" else "old"
    with _staging(plan) as staging, _open_at(staging, [old_name]) as old, _open(plan.target) as target:
        for parts, folder, entries in _walk(old):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    continue
                name = os.fsencode(entry.name)
                if entry.stat(follow_symlinks=False).st_ctime_ns < since:
                    continue
                with suppress(FileNotFoundError, NotADirectoryError), _open_at(target, parts) as into:
                    if _kind(name, into) is None:
                        os.link(name, name, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)
                        count += 1
    return count
