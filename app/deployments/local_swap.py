"""What a swap does to a folder of this machine. Blocking; see SiteTree for what each promises."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from app.deployments.descriptors import made_folder, opened, opened_at
from app.deployments.folders import (
    EXCHANGE,
    Parts,
    Visit,
    copy_status,
    kind,
    of_entry,
    place_folder,
    rename,
    staging,
    sync_file_system,
    walk,
)
from app.deployments.swap import checked_paths, entries_of, pack, sides
from app.deployments.tree import STAGING_PREFIX, SwapPlan, User

_SWAPPED_AT = "swapped-at"


def prepare(plan: SwapPlan, owner: User, *, privileged: bool) -> None:
    with opened(plan.parent) as parent, made_folder(parent, plan.staging_name) as folder:
        plan.staging = os.fstat(folder).st_ino
        with made_folder(folder, "new") as new:
            if privileged:
                os.fchown(new, owner.uid, owner.gid)
        os.fsync(folder)
        os.fsync(parent)


def merge(plan: SwapPlan, roots: Sequence[bytes]) -> None:
    with staging(plan) as ours, opened(plan.target) as live, opened_at(ours, ["new"]) as new:
        os.mkdir("merged", 0o700, dir_fd=ours)
        with opened_at(ours, ["merged"]) as merged:
            made = _link_missing(new, merged, ())
            for root in checked_paths(roots):
                made += _link_root(live, merged, _parts(root))
            for source, parts in reversed(made):
                with (
                    suppress(FileNotFoundError, NotADirectoryError),
                    opened_at(source, parts) as original,
                    opened_at(merged, parts) as copy,
                ):
                    copy_status(original, copy)


def _parts(root: bytes) -> Parts:
    return () if root == b"." else tuple(root.split(b"/"))


def _link_root(live: int, merged: int, root: Parts) -> list[tuple[int, Parts]]:
    """A folder of the live tree with all below it, or one file, and the folders above it."""
    made: list[tuple[int, Parts]] = []
    for depth in range(1, len(root)):
        if not _make_folder(merged, root[:depth], made, live):
            return made
    if not root:
        return made + _link_missing(live, merged, ())
    with suppress(FileNotFoundError, NotADirectoryError), opened_at(live, root[:-1]) as folder:
        if kind(root[-1], folder) == "d":
            if _make_folder(merged, root, made, live):
                made += _link_missing(live, merged, root)
        else:
            with opened_at(merged, root[:-1]) as target:
                _link(root[-1], folder, target)
    return made


def _make_folder(merged: int, parts: Parts, made: list[tuple[int, Parts]], source: int) -> bool:
    """Whether it is there, or was made."""
    try:
        with opened_at(merged, parts[:-1]) as above:
            os.mkdir(parts[-1], 0o700, dir_fd=above)
    except FileExistsError:
        with opened_at(merged, parts[:-1]) as above:
            return kind(parts[-1], above) == "d"
    made.append((source, parts))
    return True


def _link_missing(source: int, merged: int, start: Parts, ours: int | None = None) -> list[tuple[int, Parts]]:
    """Hard links of all below a folder that is not there yet; the folders that were made, and the first one.

    `ours`: staging, where others can rename what is in `merged`; then a folder is made there, as its source is.
    """
    made: list[tuple[int, Parts]] = [] if start else [(source, ())]
    for parts, folder, entries in walk(source, start, lenient=True):
        try:
            with opened_at(merged, parts) as target:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if not entry.is_dir(follow_symlinks=False):
                        with of_entry(b"/".join((*parts, name))):
                            _link(name, folder, target)
                    elif ours is not None:
                        with suppress(FileNotFoundError), opened_at(folder, [name]) as model:
                            place_folder(ours, model, target, name)
                    else:
                        with suppress(FileExistsError):
                            os.mkdir(name, 0o700, dir_fd=target)
                            made.append((source, (*parts, name)))
        except (NotADirectoryError, FileNotFoundError):
            continue  # what was extracted has a file there
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
    return made


def _link(name: bytes, source: int, target: int) -> None:
    """What is there stays; what has vanished meanwhile is normal."""
    with suppress(FileExistsError, FileNotFoundError):
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)


def measure(plan: SwapPlan) -> None:
    with staging(plan) as ours, opened(plan.target) as target, opened_at(ours, [plan.tree]) as new:
        sync_file_system(new)
        before = os.fstat(target)
        plan.mode_before = stat.S_IMODE(before.st_mode)
        if plan.mode == "exchange":
            plan.old, plan.new = before.st_ino, os.fstat(new).st_ino
            return
        coming = {os.fsencode(name) for name in os.listdir(new)}
        going = {os.fsencode(name) for name in os.listdir(target) if not name.startswith(STAGING_PREFIX)}
        plan.names = pack(sides(coming, going))
        for folder in ("old", "arrived", "taken"):
            os.mkdir(folder, 0o700, dir_fd=ours)
        for name, status in (("times", before), ("new-times", os.fstat(new))):
            times = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=ours)
            os.utime(times, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.close(times)
        os.fsync(ours)


def names_of(plan: SwapPlan) -> list[tuple[bytes, bool, bool]]:
    """(name, whether it comes, whether it goes) of every entry of the folder."""
    return [(entry[1:], entry[:1] in b"bn", entry[:1] in b"bo") for entry in entries_of(plan)]


def forward(plan: SwapPlan) -> list[str]:
    if plan.mode == "exchange":
        _exchange(plan, plan.new)
        return []
    arrived = []
    with _entries(plan) as (ours, old, new, target):
        for name, comes, goes in names_of(plan):
            with of_entry(name):
                waits = comes and kind(name, new) is not None
                if goes and (waits or not comes) and kind(name, old) is None and kind(name, target) is not None:
                    rename(target, old, name)
                if waits and _move_in(plan, ours, new, target, name):
                    arrived.append(name.decode("utf-8", "backslashreplace"))
        status = os.fstat(new)
        with suppress(PermissionError):
            os.fchmod(target, stat.S_IMODE(status.st_mode))
        _set_times(ours, "new-times", target)
        for folder in (old, new, target):
            os.fsync(folder)
        _stamp(ours, _SWAPPED_AT)
        os.fsync(ours)
    return arrived


def _set_times(ours: int, name: str, target: int) -> None:
    """Moving entries has changed the folder's own."""
    times = os.stat(name, dir_fd=ours, follow_symlinks=False)
    with suppress(PermissionError):
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


_TRIES = 50


def _move_in(plan: SwapPlan, ours: int, source: int, target: int, name: bytes) -> bool:
    """Whether something had arrived where it goes, and is kept apart. A folder becomes part of the old one where what
    is old is carried over."""
    apart = False
    for attempt in range(_TRIES):
        try:
            rename(source, target, name)
        except FileExistsError:
            if attempt == _TRIES - 1:
                raise
            apart |= not _take_away(plan, ours, target, name)
        else:
            break
    return apart


def _take_away(plan: SwapPlan, ours: int, target: int, name: bytes) -> bool:
    """Whether what has arrived is part of the old tree now."""
    kept = name + b"." + secrets.token_hex(4).encode()
    with opened_at(ours, ["arrived"]) as arrived:
        try:
            rename(target, arrived, name, 0, kept)
        except FileNotFoundError:  # it has gone again
            return True
        if not plan.roots or kind(kept, arrived) != "d":
            return False
        try:
            with opened_at(arrived, [kept]) as come, opened_at(ours, ["old", name]) as old:
                _link_missing(come, old, (), ours)
            with opened_at(ours, ["taken"]) as taken:
                rename(arrived, taken, kept)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def backward(plan: SwapPlan) -> None:
    if plan.mode == "exchange":
        _exchange(plan, plan.old)
        return
    with _entries(plan) as (ours, old, new, target):
        for name, comes, goes in reversed(names_of(plan)):
            with of_entry(name):
                if comes and kind(name, new) is None and kind(name, target) is not None:
                    rename(target, new, name)
                if goes and kind(name, old) is not None:
                    _move_in(plan, ours, old, target, name)
        if plan.mode_before is not None:
            with suppress(PermissionError):
                os.fchmod(target, plan.mode_before)
        _set_times(ours, "times", target)
        for folder in (old, new, target):
            os.fsync(folder)


@contextmanager
def _entries(plan: SwapPlan) -> Iterator[tuple[int, int, int, int]]:
    """Staging, its `old`, the tree that comes, the target."""
    with (
        staging(plan) as ours,
        opened(plan.target) as target,
        opened_at(ours, ["old"]) as old,
        opened_at(ours, [plan.tree]) as new,
    ):
        yield ours, old, new, target


def _exchange(plan: SwapPlan, wanted: int | None) -> None:
    """So that the folder of inode `wanted` is the target."""
    with opened(plan.target) as target:
        found = os.fstat(target).st_ino
    if found == wanted:
        return
    if found not in (plan.old, plan.new):
        raise OSError(errno.EBUSY, "it is another folder than when the swap began: somebody else has moved it")
    with opened(plan.parent) as parent, staging(plan) as ours:
        rename(parent, ours, _name(plan), EXCHANGE, plan.tree.encode())
        if os.stat(plan.tree, dir_fd=ours, follow_symlinks=False).st_ino != found:
            rename(parent, ours, _name(plan), EXCHANGE, plan.tree.encode())  # what is another's stays where it was
            raise OSError(errno.EBUSY, "another folder was put there while it was swapped")
        if wanted == plan.new:
            _stamp(ours, _SWAPPED_AT)
        os.fsync(parent)
        os.fsync(ours)


def _name(plan: SwapPlan) -> bytes:
    return os.fsencode(plan.target.rstrip("/").rpartition("/")[2])


def carry_over(plan: SwapPlan, roots: Sequence[bytes]) -> int:
    count = 0
    with (
        staging(plan) as ours,
        opened_at(ours, [plan.old_tree]) as old,
        opened_at(ours, ["new"]) as new,
        opened(plan.target) as live,
    ):
        swapped_at = os.stat(_SWAPPED_AT, dir_fd=ours).st_ctime_ns if kind(_SWAPPED_AT, ours) else None
        for parts, folder, entries in _below(old, roots):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    continue
                name = os.fsencode(entry.name)
                status = entry.stat(follow_symlinks=False)
                if _is_newer((*parts, name), status, live, new, swapped_at):
                    count += _carry(ours, folder, live, old, (*parts, name))
    return count


def _below(old: int, roots: Sequence[bytes]) -> Iterator[Visit]:
    for root in checked_paths(roots):
        *above, last = _parts(root) or (b"",)
        if not last:
            yield from walk(old, lenient=True)
            continue
        with suppress(OSError), opened_at(old, above) as folder:
            if kind(last, folder) == "d":
                yield from walk(old, (*above, last), lenient=True)
            else:
                with os.scandir(folder) as entries:
                    found = [entry for entry in entries if os.fsencode(entry.name) == last]
                yield tuple(above), folder, found


def _is_newer(path: Parts, status: os.stat_result, live: int, new: int, swapped_at: int | None) -> bool:
    """Whether the old tree's file is what the live one lacks."""
    there = _found(live, path)
    if there is None:
        return True
    if stat.S_ISDIR(there.st_mode) or there.st_ino == status.st_ino:
        return False
    extracted = _found(new, path)
    if extracted is not None and extracted.st_ino == there.st_ino:
        return False
    return swapped_at is None or there.st_mtime_ns <= swapped_at


def _found(root: int, path: Parts) -> os.stat_result | None:
    try:
        with opened_at(root, path[:-1]) as folder:
            return os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def _carry(ours: int, folder: int, live: int, old: int, path: Parts) -> int:
    """By way of staging, so that what is there is replaced in one step."""
    temporary = "carried"
    try:
        for depth in range(1, len(path)):
            with opened_at(live, path[: depth - 1]) as above:
                if kind(path[depth - 1], above) is None:
                    with opened_at(old, path[:depth]) as model:
                        place_folder(ours, model, above, path[depth - 1])
        with opened_at(live, path[:-1]) as into:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=ours)
            os.link(path[-1], temporary, src_dir_fd=folder, dst_dir_fd=ours, follow_symlinks=False)
            os.rename(temporary, path[-1], src_dir_fd=ours, dst_dir_fd=into)
    except (FileNotFoundError, NotADirectoryError):  # it vanished, or a file stands where its folder was
        return 0
    return 1


def holds_old(plan: SwapPlan) -> bool:
    if plan.staging is None:
        return False
    try:
        with staging(plan) as ours:
            for name in ("old", "arrived"):
                with suppress(FileNotFoundError), opened_at(ours, [name]) as folder:
                    if os.listdir(folder):
                        return True
    except FileNotFoundError:
        return False
    if plan.mode == "exchange" and plan.old is not None:
        with opened(plan.target) as target:
            return os.fstat(target).st_ino != plan.old
    return False


def _stamp(folder: int, name: str) -> None:
    """By the clock of the file system: another one's may be off."""
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder))
    os.utime(name, dir_fd=folder)
