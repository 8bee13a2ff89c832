"""A site's folder of this machine: directory handles only, no link is ever followed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from app.deployments import local_swap, swap_scripts
from app.deployments.exclusions import find_matching
from app.deployments.folders import (
    EXCHANGE,
    Parts,
    Statx,
    copy_status,
    in_thread,
    is_immutable,
    mountinfo,
    opened,
    opened_at,
    rename,
    staging,
    status,
    sync_file_system,
    walk,
)
from app.deployments.local_merge import merge
from app.deployments.mounts import mounts_below
from app.deployments.tree import (
    STAGING_PREFIX,
    Entry,
    MergeRules,
    SiteTree,
    SwapMode,
    SwapPlan,
    TreeStatus,
    User,
)
from app.errors import SwapImpossible, TargetMissing

if TYPE_CHECKING:
    from app.deployments.base import Deployment

_BATCH = 2000
_NAMED = 20


class LocalTree(SiteTree):
    tells_fixed = True

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def status(self, path: str) -> TreeStatus:
        return await in_thread(path, lambda: status(path))

    async def swap_mode(self, path: str) -> SwapMode:
        return await in_thread(path, lambda: _swap_mode(path))

    async def mounts(self, path: str) -> list[str]:
        return await in_thread(path, lambda: mounts_below(mountinfo(), path))

    async def immutable(self, path: str, *, deep: bool) -> list[str]:
        return await in_thread(path, lambda: _immutable(path, deep=deep))

    async def matching(self, path: str, patterns: Sequence[str]) -> list[bytes]:
        return await find_matching(self._deployment, path, patterns)

    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        privileged = self._deployment.privileged
        await in_thread(plan.target, lambda: local_swap.prepare(plan, owner, privileged=privileged))
        return f"{plan.staging_path}/new"

    async def inventory(self, path: str, *, live: bool = False) -> AsyncGenerator[list[Entry], None]:
        walked = _inventory(path, live=live)
        while True:
            batch = await in_thread(path, lambda: next(walked, None))
            if batch is None:
                return
            yield batch

    async def sync(self, path: str) -> None:
        await in_thread(path, lambda: _sync(path))

    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]]) -> None:
        await in_thread(path, lambda: _set_owners(path, owners))

    async def merge(self, plan: SwapPlan, roots: Sequence[bytes]) -> None:
        await in_thread(plan.target, lambda: local_swap.merge(plan, roots))

    async def measure(self, plan: SwapPlan) -> None:
        await in_thread(plan.target, lambda: local_swap.measure(plan))

    async def forward(self, plan: SwapPlan) -> list[str]:
        return await in_thread(plan.target, lambda: local_swap.forward(plan))

    async def backward(self, plan: SwapPlan) -> None:
        await in_thread(plan.target, lambda: local_swap.backward(plan))

    async def carry_over(self, plan: SwapPlan, roots: Sequence[bytes]) -> int:
        return await in_thread(plan.target, lambda: local_swap.carry_over(plan, roots))

    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        return await in_thread(plan.target, lambda: _add_missing(plan, rules))

    async def holds_old(self, plan: SwapPlan) -> bool:
        return await in_thread(plan.target, lambda: local_swap.holds_old(plan))

    async def remove(self, plan: SwapPlan) -> None:
        try:
            await self.status(plan.staging_path)
        except TargetMissing:
            return
        mounted = await self.mounts(plan.staging_path)
        if mounted:
            raise SwapImpossible(f"{mounted[0]} is mounted in what is to be removed; unmount it")
        await in_thread(plan.target, lambda: _check(plan))
        # rm copes with any depth and races with nobody: it runs inside a folder only we can enter.
        await self._deployment.run(["sh", "-ec", swap_scripts.EMPTY], cwd=plan.staging_path)
        await in_thread(plan.target, lambda: _remove_emptied(plan))


def _check(plan: SwapPlan) -> None:
    with staging(plan):
        pass


def _remove_emptied(plan: SwapPlan) -> None:
    with opened(plan.parent) as parent, suppress(FileNotFoundError):
        before = os.fstat(parent)
        os.rmdir(plan.staging_name, dir_fd=parent)
        if plan.mode != "exchange":  # the site's own folder: its time says nothing of us
            with suppress(PermissionError):
                os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap_mode(path: str) -> SwapMode:
    """Probes left by a process that was killed are removed by the next one."""
    if status(path).mount_point:
        return "entries"
    with opened(path.rstrip("/").rpartition("/")[0]) as parent:
        _remove_old_probes(parent)
        probes = [f"{_PROBE}{os.getpid()}-{n}-{time.monotonic_ns()}".encode() for n in (1, 2)]
        try:
            for probe in probes:
                os.mkdir(probe, 0o700, dir_fd=parent)
            rename(parent, parent, probes[0], EXCHANGE, probes[1])
        except OSError:
            return "entries"
        finally:
            for probe in probes:
                with suppress(OSError):
                    os.rmdir(probe, dir_fd=parent)
    return "exchange"


_PROBE = f"{STAGING_PREFIX}probe-"
_PROBE_SECONDS = 3600


def _remove_old_probes(parent: int) -> None:
    for name in os.listdir(parent):
        if name.startswith(_PROBE):
            with suppress(OSError):
                if os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime < time.time() - _PROBE_SECONDS:
                    os.rmdir(name, dir_fd=parent)  # only an empty folder


def _immutable(path: str, *, deep: bool) -> list[str]:
    found: list[str] = []
    with opened(path) as root:
        if is_immutable(".", root):
            found.append(".")
        if not deep:
            with os.scandir(root) as entries:
                found += [entry.name for entry in entries if is_immutable(entry.name, root)]
    if deep:
        for batch in _inventory(path, live=True):
            found += [os.fsdecode(entry.path) for entry in batch if entry.fixed]
            if len(found) >= _NAMED:
                break
    return [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in found[:_NAMED]]


def _inventory(path: str, *, live: bool) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    look = Statx()
    with opened(path) as root:
        for parts, folder, entries in walk(root, lenient=live):
            above = b"".join(part + b"/" for part in parts)
            for entry in entries:
                name = os.fsencode(entry.name)
                found = look.entry(name, folder, above + name)
                if found is not None:  # it has vanished: what is missing of an extracted tree shows
                    batch.append(found)
            if len(batch) >= _BATCH:
                yield batch
                batch = []
    yield batch


def _sync(path: str) -> None:
    with opened(path) as folder:
        sync_file_system(folder)


def _set_owners(path: str, owners: Sequence[tuple[bytes, int, int]]) -> None:
    with opened(path) as root:
        for name, uid, gid in owners:
            *folders, last = name.split(b"/")
            with opened_at(root, folders) as folder:
                mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                os.chown(last, uid, gid, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISLNK(mode):  # chown clears them; a program with another user's rights is no site's
                    os.chmod(last, stat.S_IMODE(mode) & 0o3777, dir_fd=folder)


def _add_missing(plan: SwapPlan, rules: MergeRules) -> int:
    with staging(plan) as ours, opened_at(ours, ["new"]) as new, opened(plan.target) as live:
        sync_file_system(new)
        return merge(new, live, rules, _copied, STAGING_PREFIX)


def _copied(source: int, target: int, parts: Parts) -> None:
    with opened_at(source, parts) as original, opened_at(target, parts) as made:
        copy_status(original, made)
