"""One tree of this machine added to another, file by file, under a component's rules."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from app.deployments.descriptors import opened_at
from app.deployments.folders import Parts, kind
from app.deployments.tree import MAX_NOTE, MergeRules

_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def merge(new: int, live: int, rules: MergeRules, make: Callable[[int, int, bytes], None], hidden: str) -> int:
    """Link what `rules` names from below the folder `new` into `live` (descriptors); return how many files.

    `make(folder, target, name)` makes a folder in `target` as the staged one in `folder` is, where there is none.
    `hidden`: how names begin that are ours, at the top of `live`. Blocking.
    """
    for parts, folder, entries in _walk(live):
        for name, _ in entries:
            if parts or not os.fsdecode(name).startswith(hidden):
                rules.have((*parts, name))
        _read_notes(rules, folder, parts, live=True)
    for parts, _, entries in _walk(new):
        for name, _ in entries:
            rules.staged((*parts, name))
    count = 0
    for parts, folder, entries in _walk(new):
        _read_notes(rules, folder, parts, live=False)
        with opened_at(live, parts) as target:
            before = count
            for name, is_folder in entries:
                if not is_folder:
                    count += _link(rules, folder, target, (*parts, name))
                    continue
                if kind(name, target) is None:
                    make(folder, target, name)
            if count > before:
                os.fsync(target)
    for path, line in rules.appended():
        with opened_at(live, path[:-1]) as target:
            _append(target, path[-1], line)
    return count


def _walk(root: int) -> Iterator[tuple[Parts, int, Iterator[tuple[bytes, bool]]]]:
    """(path, descriptor, names and whether they are folders) of every folder, parents first. A million names in one
    folder are not held; what goes away meanwhile is left out."""
    pending: list[Parts] = [()]

    def listed(parts: Parts, folder: int) -> Iterator[tuple[bytes, bool]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, is_folder = os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)
                if is_folder:
                    pending.append((*parts, name))
                yield name, is_folder

    while pending:
        parts = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError), opened_at(root, parts) as folder:
            yield parts, folder, listed(parts, folder)


def _read_notes(rules: MergeRules, folder: int, parts: Parts, *, live: bool) -> None:
    for name in rules.notes:
        with suppress(OSError):  # not there, or no file
            descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    rules.note((*parts, name), file.read(MAX_NOTE), live=live)


def _link(rules: MergeRules, folder: int, target: int, path: Parts) -> int:
    name = rules.name(path)
    if name is None:
        return 0
    size = os.stat(path[-1], dir_fd=folder, follow_symlinks=False).st_size
    try:
        os.link(path[-1], name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        return 0
    rules.added(path, size)
    return 1


def _append(folder: int, name: bytes, line: bytes) -> None:
    """In one write, as the file's other writers do. Nothing where a link, another name of a file, or a file of
    somebody else than the folder's owner stands there."""
    with suppress(OSError):
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=folder)
            made = True
        except FileExistsError:
            descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | _FILE, dir_fd=folder)
            made = False
        try:
            status, owner = os.fstat(descriptor), os.fstat(folder)
            theirs = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == owner.st_uid
            if made or theirs:
                os.write(descriptor, line)
            if made:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)
